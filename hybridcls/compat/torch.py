"""Private parts of torch that hybridcls uses. Run with torch 2.14."""

import argparse
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import Any, BinaryIO, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import set_eval_frame
from torch._utils import ExceptionWrapper
from torch.nn.modules.batchnorm import _NormBase as AnyBatchNorm
from torch.nn.modules.conv import _ConvNd as AnyConv
from torch.nn.modules.conv import _ConvTransposeNd as AnyTransposedConv
from torch.nn.modules.dropout import _DropoutNd as AnyDropout
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker

from . import restricted_pickle
from .restricted_pickle import Placeholder, RefusedError

__all__ = [
    'AnyBatchNorm', 'AnyConv', 'AnyDropout', 'AnyTransposedConv', 'buffers_in', 'call_compiled_by',
    'carry_sentences_out_of_workers', 'compiler_in_use', 'copy_module_versions', 'drop_iterator', 'drop_momentum',
    'exclude_names_from_ddp', 'follow_fused_groups', 'is_dtensor', 'is_view', 'late_momentum', 'left_by_overflow',
    'parameters_in', 'Placeholder', 'placeholders_in', 'read_torch_file', 'RunsCodeError', 'set_batch_sampler',
    'Uncompiled', 'version_of', 'WITHOUT_FLOAT64', 'without_momentum',
]  # fmt: skip

WITHOUT_FLOAT64 = {'mps'}
"""The types of devices that have no float64."""
_NUMERIC = re.compile(r'[<>=|]?[biufc]\d{1,2}|[<>=|]?[US]\d{1,6}')
_ZIP, _PICKLE = b'PK\x03\x04', b'\x80'


class RunsCodeError(ValueError):
    """The file cannot be read without running code in it; the message says which."""


def read_torch_file(file: BinaryIO, map_location: Any = 'cpu') -> Any:
    """Read a file of ``torch.save`` (zip, or the format before torch 1.6) without running code in it.

    Args:
        file (BinaryIO): Opened for reading, seekable, at its beginning.
        map_location: As in ``torch.load``.

    Returns:
        Any: Tensors, numbers, strings, containers, and of the classes that checkpoints of mmengine and timm hold
        numpy's scalars and arrays of numbers or strings, ``HistoryBuffer``, ``argparse.Namespace``; a ``ConfigDict``
        as dict, a path as string. Everything else is a :class:`Placeholder`.

    Raises:
        RunsCodeError: For TorchScript, tar files (torch before 0.1.10) and pickles that do more than build objects.
        Exception: Whatever torch and pickle raise for a damaged file.
    """
    start = file.read(4)
    file.seek(0)
    if start == _ZIP:
        # torch.load hands TorchScript to its interpreter. Asked of the reader that torch.load asks: two readers of
        # zip files can see different files in one.
        records = torch._C.PyTorchFileReader(file).get_all_records()
        if 'constants.pkl' in records:
            raise RunsCodeError('a TorchScript program')
    else:
        try:
            with tarfile.open(fileobj=file, mode='r:'):
                raise RunsCodeError('a tar file of torch before 0.1.10')
        except tarfile.TarError:
            pass
    file.seek(0)
    try:
        content = torch.load(file, map_location=map_location, pickle_module=restricted_pickle, weights_only=False)
    except RefusedError as error:
        raise RunsCodeError(f'a pickle with {error}') from error
    return _rebuilt(content, {})


def placeholders_in(content: Any) -> Iterator[Placeholder]:
    """Yield the placeholders of objects that were not built."""
    seen: set[int] = set()
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, Placeholder):
            yield value
        elif isinstance(value, (dict, list, tuple, set, frozenset, argparse.Namespace)) and id(value) not in seen:
            seen.add(id(value))
            value = vars(value) if isinstance(value, argparse.Namespace) else value
            todo += [*value, *value.values()] if isinstance(value, dict) else value


def _rebuilt(value: Any, done: dict[int, Any]) -> Any:
    """Replace placeholders of known classes; dicts and lists are changed in place, so cycles are preserved."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, dict):
        done[id(value)] = value, value
        for key, entry in list(value.items()):
            new_key, new_entry = _hashable(key, _rebuilt(key, done)), _rebuilt(entry, done)
            if new_key is not key:
                del value[key]
            if new_key is not key or new_entry is not entry:
                value[new_key] = new_entry
        return value
    if isinstance(value, list):
        done[id(value)] = value, value
        value[:] = [_rebuilt(entry, done) for entry in value]
        return value
    if type(value) in (tuple, set, frozenset):
        keep = _hashable if type(value) is not tuple else lambda old, new: new
        new: Any = type(value)(keep(entry, _rebuilt(entry, done)) for entry in value)
    elif isinstance(value, Placeholder):
        done[id(value)] = value, value  # while its own parts are rebuilt, one of which may be it
        for name in ('arguments', 'state', 'entries'):
            setattr(value, name, _rebuilt(getattr(value, name), done))
        new = _known(value)
    else:
        return value
    done[id(value)] = value, new  # with the old one, so that no other object gets its id
    return new


def _hashable(old: Any, new: Any) -> Any:
    try:
        hash(new)
    except TypeError:
        return old
    return new


def _known(placeholder: Placeholder) -> Any:
    """Build an object of a known class from its placeholder; malformed ones stay placeholders."""
    kind, arguments, state = placeholder.kind, placeholder.arguments, placeholder.state
    built: Any = None
    if kind in ('numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar'):
        values = _array(arguments[1:], (1,), arguments[0] if arguments else None)
        built = None if values is None else values[0]
    elif kind in ('numpy.core.multiarray._reconstruct', 'numpy._core.multiarray._reconstruct'):
        if isinstance(state, tuple) and len(state) == 5:
            built = _array(state[4:], state[1], state[2], 'F' if state[3] is True else 'C')
    elif kind == 'argparse.Namespace':
        if isinstance(state, dict) and all(isinstance(key, str) for key in state):
            built = argparse.Namespace(**state)
    elif kind == 'mmengine.config.config.ConfigDict':
        if len(arguments) == 1 and isinstance(arguments[0], dict):
            built = arguments[0]
    elif kind in ('pathlib.PosixPath', 'pathlib.WindowsPath', 'pathlib.PurePosixPath', 'pathlib.PureWindowsPath'):
        if all(isinstance(part, str) for part in arguments):
            built = str(PurePath(*arguments))
    elif kind == 'mmengine.logging.history_buffer.HistoryBuffer' and isinstance(state, dict):
        # Its own __setstate__ would let the file replace functions of the class, for every other history too: they
        # are in there as `getattr(HistoryBuffer, 'min')`.
        logs, counts, most = (state.get(name) for name in ('_log_history', '_count_history', 'max_length'))
        if isinstance(logs, np.ndarray) and isinstance(counts, np.ndarray) and isinstance(most, int):
            built = HistoryBuffer(logs, counts, most) if logs.shape == counts.shape else None  # type: ignore[arg-type]
    return placeholder if built is None else built


def _array(data: tuple, shape: Any, dtype: Any, order: str = 'C') -> Optional[np.ndarray]:
    """Build an array of numbers or strings, or return None; numpy's own unpickling would trust the file's content."""
    if not (isinstance(dtype, Placeholder) and dtype.kind == 'numpy.dtype' and dtype.arguments and len(data) == 1):
        return None
    name = dtype.arguments[0]
    if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
        return None
    try:
        kind = np.dtype(name)
    except TypeError:  # no such size
        return None
    if isinstance(dtype.state, tuple) and len(dtype.state) > 1 and dtype.state[1] in ('<', '>'):
        kind = kind.newbyteorder(dtype.state[1])
    raw = data[0].encode('latin1') if isinstance(data[0], str) else data[0]  # Python 2 has one type for both
    if not isinstance(raw, bytes) or not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape):
        return None
    if kind.itemsize == 0 or min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * kind.itemsize != len(raw):
        return None
    return np.frombuffer(raw, kind).reshape(shape, order=order).copy()  # type: ignore[call-overload]


@torch.compiler.disable(recursive=False)
def compiler_in_use() -> Any:
    """Return the torch.compile callback of the running code, for :func:`call_compiled_by`; None if there is none."""
    compiler = set_eval_frame(None)
    set_eval_frame(compiler)
    return compiler


def call_compiled_by(compiler: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` under the callback from :func:`compiler_in_use`, so that it is compiled, or not, as there."""
    here = set_eval_frame(compiler)
    try:
        return function(*args, **kwargs)
    finally:
        set_eval_frame(here)


class Uncompiled:
    """A context manager that torch.compile does not trace; the code in its block is compiled."""

    def __init__(self, context: AbstractContextManager) -> None:
        self._context = context

    @torch.compiler.disable
    def __enter__(self) -> None:
        self._context.__enter__()

    @torch.compiler.disable
    def __exit__(self, *error: Any) -> Optional[bool]:
        return self._context.__exit__(*error)


def carry_sentences_out_of_workers(explain: Callable[[BaseException], Optional[str]]) -> Callable[[], None]:
    """Replace the traceback of an error in a data loader's worker by the message of ``explain``, if it has one.

    A worker hands on the type of its error and the printed traceback, and torch raises that type with the traceback as
    its text. Only in the worker can the error itself be looked at, so what torch sends from there is replaced.

    Args:
        explain: Returns the sentence to show for an error, or None: then torch goes on as ever.

    Returns:
        Callable: Called, it puts torch's own back, for all data loaders whose workers start later.
    """
    _SentenceWrapper.explain = staticmethod(explain)
    worker.ExceptionWrapper = _SentenceWrapper  # type: ignore[misc]
    return _carry_no_sentences


def _carry_no_sentences() -> None:
    worker.ExceptionWrapper = ExceptionWrapper  # type: ignore[misc]


class _SentenceWrapper(ExceptionWrapper):
    """Carry an error out of a worker, with the message for it."""

    explain: Callable[[BaseException], Optional[str]]

    def __init__(self, exc_info: Any = None, where: str = 'in background') -> None:
        exc_info = exc_info or sys.exc_info()
        super().__init__(exc_info, where)
        self.sentence = self.explain(exc_info[1])

    def reraise(self) -> None:
        """Raise the error in the process that waits for the batch."""
        if self.sentence is None:
            super().reraise()
        try:
            error = self.exc_type(self.sentence)
        except Exception:  # its constructor takes something else
            error = RuntimeError(self.sentence)
        raise error from RuntimeError(f'{self.where}:\n{self.exc_msg}')


def copy_module_versions(source: Any, target: Any) -> None:
    """Copy module versions from one state dict to another; torch converts old weights by these."""
    if hasattr(source, '_metadata'):
        target._metadata = source._metadata


def drop_iterator(loader: Any) -> None:
    """Drop the iterator of a dataloader and end its workers; other objects are ignored."""
    if isinstance(loader, DataLoader):
        loader._iterator = None


def set_batch_sampler(loader: DataLoader, batch_sampler: Any) -> None:
    """Replace the batch sampler of a dataloader that has not been iterated over yet.

    torch refuses the assignment once the dataloader is built, since an iterator that exists would not notice.

    Raises:
        RuntimeError: If the dataloader keeps an iterator (``persistent_workers``) already.
    """
    if loader._iterator is not None:
        raise RuntimeError('set_batch_sampler: expected a dataloader without an iterator. Exchange it before the run.')
    vars(loader)['batch_sampler'] = batch_sampler


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, as autograd counts it."""
    return tensor._version


def is_view(tensor: Tensor) -> bool:
    """Return whether a tensor is a view of another one, as gradients in DDP's buckets are."""
    return tensor._base is not None


def buffers_in(module: nn.Module) -> dict[str, Any]:
    """Return the dict of a module's own buffers, which can be modified.

    Some may be None.
    """
    return module._buffers


def parameters_in(module: nn.Module) -> dict[str, Any]:
    """Return the dict of a module's own parameters, which can be modified.

    Some may be None.
    """
    return module._parameters


def is_dtensor(value: Any) -> bool:
    """Return whether ``value``, a tensor or parameter, is a ``DTensor`` (FSDP2, tensor parallelism).

    By name: the import of ``torch.distributed.tensor`` takes long, and without it there is none.
    """
    return type(value).__name__ == 'DTensor' or type(getattr(value, 'data', None)).__name__ == 'DTensor'


def left_by_overflow(scaler: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer, called by a loss scaler, skipped its step because of a gradient overflow.

    Fused optimizers are always called, and look at the scaler's flags on the device; this waits for the device.
    """
    if not getattr(optimizer, '_step_supports_amp_scaling', False):
        return False
    return any(flag.item() for flag in scaler._found_inf_per_device(optimizer).values())


def follow_fused_groups(optimizer: torch.optim.Optimizer, groups: list[dict]) -> None:
    """Set how a loss scaler treats an optimizer (fused or not) from the groups of a checkpoint that it loads.

    The constructor notes for the scaler that a fused optimizer unscales by itself; loaded groups that are not fused
    would then fail at the first step.
    """
    if hasattr(optimizer, '_step_supports_amp_scaling'):
        optimizer._step_supports_amp_scaling = all(group.get('fused') for group in groups)


def without_momentum(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the parameters whose momentum buffers fused SGD will create in its next step."""
    if not isinstance(optimizer, torch.optim.SGD):
        return []
    groups = [group for group in optimizer.param_groups if group.get('fused') and group['momentum']]
    params = [param for group in groups for param in group['params']]
    return [param for param in params if optimizer.state.get(param, {}).get('momentum_buffer') is None]


def drop_momentum(optimizer: torch.optim.Optimizer, params: Iterable[Tensor]) -> None:
    """Drop the momentum buffers of parameters.

    Fused SGD creates its buffers without a value before it looks at the scaler's flags (torch 2.6 to 2.14): after a
    step that it skips, the next one would add whatever was in that memory.
    """
    for param in params:
        optimizer.state.get(param, {}).pop('momentum_buffer', None)


def late_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Create momentum buffers of zeros for parameters whose first gradient is late, which fused SGD does not.

    It fails with a TypeError instead (torch 2.6 to 2.14). Without dampening the step is that of the other forms.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group.get('fused') and group['momentum'] and not group['dampening']:
            given = [param for param in group['params'] if param.grad is not None]
            late = [param for param in given if optimizer.state[param].get('momentum_buffer') is None]
            for param in late if len(late) < len(given) else ():
                optimizer.state[param]['momentum_buffer'] = torch.zeros_like(param)


def exclude_names_from_ddp(model: nn.Module, names: list[str]) -> None:
    """Exclude the parameters of these names from ``DistributedDataParallel``; call it before wrapping."""
    known = getattr(model, '_ddp_params_and_buffers_to_ignore', [])
    vars(model)['_ddp_params_and_buffers_to_ignore'] = [*known, *names]
