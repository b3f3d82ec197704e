"""Private parts of torch.compile that hybridcls uses. Run with torch 2.6 and 2.14."""

import logging
import os
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import nn

__all__ = [
    'COMPILES_THAWED_WEIGHTS', 'CompilerCounts', 'compilation_failure', 'compiler_cache_dir', 'compiler_counts',
    'compiler_is_off', 'frozen_weights', 'is_compiled', 'missing_for_inductor', 'tell_recompile_limit', 'uncompile',
]  # fmt: skip

COMPILES_THAWED_WEIGHTS = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 14)
"""Whether weights that were frozen at the first call get gradients later. With torch 2.6 they get none, without a word;
2.14 compiles again. What stands between the two is not known."""


class CompilerCounts(NamedTuple):
    """Counts of what torch.compile has done in this process.

    Args:
        graphs (int): Graphs that it built: without breaks, one for each time it compiled something.
        breaks (dict[str, int]): How often each reason cut one in two.
    """

    graphs: int
    breaks: dict[str, int]


def compiler_counts() -> CompilerCounts:
    """Return torch's own counts."""
    from torch._dynamo.utils import counters

    return CompilerCounts(counters['stats']['unique_graphs'], dict(counters['graph_break']))


def compiler_is_off() -> bool:
    """Return whether ``TORCH_COMPILE_DISABLE=1`` disables ``torch.compile``, which it does silently."""
    from torch._dynamo import config

    return bool(config.disable)


def tell_recompile_limit(tell: Callable[[int, str], object]) -> None:
    """Call ``tell`` with the limit and torch's last reason whenever torch reaches its recompile limit.

    It says so itself in its own log, of five lines, and not in that of a training; these are left out.

    Args:
        tell (Callable): Takes both; the one of the last call counts.
    """
    _RecompileLimit.tell = staticmethod(tell)
    logger = logging.getLogger('torch._dynamo.convert_frame')
    if not any(isinstance(one, _RecompileLimit) for one in logger.filters):
        logger.addFilter(_RecompileLimit())


class _RecompileLimit(logging.Filter):
    tell: Callable[[int, str], object]

    def filter(self, record: logging.LogRecord) -> bool:
        known = isinstance(record.args, tuple) and len(record.args) > 3  # name, limit, function, reason
        if not known or not str(record.msg).startswith('torch._dynamo hit config.'):
            return True
        limit, reason = record.args[1], str(record.args[3])  # type: ignore[index]
        self.tell(int(str(limit)), reason.partition(': ')[2] or reason)
        return False


def compiler_cache_dir() -> str:
    """Return the cache folder of torch.compile's own backend."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return os.path.abspath(os.environ.get('TORCHINDUCTOR_CACHE_DIR') or default_cache_dir())


def frozen_weights() -> AbstractContextManager:
    """Compile code in the block with weights as constants, which are packed once for the CPU's products.

    Among the options of ``torch.compile`` the setting comes too late: by then weights are inputs of the graph (2.14).
    """
    from torch._inductor import config

    return config.patch(freezing=True)


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``module.compile()`` was called."""
    return module._compiled_call_impl is not None


def uncompile(module: nn.Module) -> None:
    """Undo ``module.compile()``."""
    module._compiled_call_impl = None


def missing_for_inductor(device_type: str) -> str:
    """Return what inductor needs on a device and does not find, as a sentence; '' if nothing is missing."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device_type != 'cpu' and not has_triton():
        return 'Triton, which PyTorch brings on Linux (`pip install triton`), and a GPU that it supports'
    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError):
        return 'a C++ compiler (`apt-get install g++`, or set CXX to the path of one)'
    if not os.path.isfile(os.path.join(sysconfig.get_path('include'), 'Python.h')):
        return 'the headers of Python (`apt-get install python3-dev`)'
    folder = compiler_cache_dir()
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ''
    except OSError as error:
        return f'a folder to write to ({folder}: {error.strerror}; set TORCHINDUCTOR_CACHE_DIR to another one)'


def compilation_failure(error: Exception) -> str:
    """Return the kind of failure of an error in the first call of compiled code, by its class."""
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor.exc import CppCompileError

    cause = getattr(error, 'inner_exception', None) or error.__cause__ or error
    if isinstance(error, torch.OutOfMemoryError) or isinstance(cause, torch.OutOfMemoryError):
        return 'the memory does not suffice'
    if isinstance(error, CppCompileError) or isinstance(cause, CppCompileError):
        return 'the C++ compiler fails'
    if isinstance(error, BackendCompilerFailed):
        return "torch.compile's backend fails"
    if isinstance(error, TorchDynamoException):
        return 'torch.compile cannot follow the code of the model'
    return f'the compiled model fails with {type(error).__name__}'
