"""Compile each stream of a model in one graph, and nothing else of the model."""

import inspect
import logging
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from hybridcls.checks import did_you_mean
from hybridcls.compat.torch_compiler import compiler_is_off, missing_for_inductor, tell_recompile_limit

from .stream import Stream

__all__ = ['COMPILE_OPTIONS', 'check_compiler', 'compile_streams', 'compiled_parts']

COMPILE_OPTIONS = ('mode', 'backend', 'dynamic', 'fullgraph', 'options', 'recompile_limit')
"""What :func:`compile_streams` takes: arguments of ``torch.compile``."""
_CAN_ISOLATE = 'isolate_recompiles' in inspect.signature(torch.compile).parameters  # not in torch 2.6
_SHARED_VARIANTS = 64  # members of an ensemble have one each
_WITHOUT_COMPILER = ('eager', 'aot_eager')  # backends that build nothing


def compile_streams(model: nn.Module, share_variants: bool = False, **options: Any) -> list[str]:
    """Set up each stream of a model, in place, to be compiled by ``torch.compile`` at its first call.

    The names of parameters and modules, and so checkpoints, stay as they are; a copy of the model (EMA) runs
    uncompiled. Neck, head, loss and preprocessing are not compiled: they take little time, and parts of them ask for
    the values of tensors.

    Args:
        model (nn.Module): Any. Without streams, its ``backbone`` is compiled.
        share_variants (bool): Count what was compiled for all models with the same code together, and find it again
            after another call; else each stream has ``recompile_limit`` variants of its own. Defaults to False.
        **options: ``mode``, ``backend``, ``dynamic``, ``fullgraph``, ``options`` and ``recompile_limit`` of
            ``torch.compile``.

    Returns:
        list[str]: The names of what is compiled.

    Raises:
        ValueError: If there is no such part or option (in this torch), or the backend gives wrong gradients.
    """
    for name in options:
        if name not in COMPILE_OPTIONS:
            raise ValueError(
                f'compile_streams: expected arguments of torch.compile, got {name!r}.'
                f'{did_you_mean(name, COMPILE_OPTIONS)} Known: {", ".join(COMPILE_OPTIONS)}.'
            )
    parts = compiled_parts(model)
    if options.get('backend') == 'eager' and any(getattr(one, 'grad_checkpointing', False) for one in model.modules()):
        raise ValueError(
            "compile_streams: backend='eager' draws other random numbers where activation checkpointing (with_cp=True) "
            "computes again, so gradients would be wrong. Take 'aot_eager', 'inductor', or with_cp=False."
        )
    if 'recompile_limit' in options and not _CAN_ISOLATE:
        raise ValueError(
            'compile_streams: expected a torch whose compile takes recompile_limit (2.14 does), got '
            f'{torch.__version__}. Leave the key out, or pip install -U torch.'
        )
    tell_recompile_limit(_tell_limit)
    if _CAN_ISOLATE and share_variants:
        options.setdefault('recompile_limit', _SHARED_VARIANTS)
    elif _CAN_ISOLATE:
        options['isolate_recompiles'] = True
    for part in parts.values():
        part.compile(**options)
    return list(parts)


def _tell_limit(limit: int, reason: str) -> None:
    print_log(
        f'torch.compile: a stream has met more than {limit} kinds of batches, the last: {reason}. From now on it runs '
        f'uncompiled where it meets others, with the same results. compile_streams=dict(recompile_limit={2 * limit}) '
        'allows more; each takes its time to compile.',
        'current',
        logging.WARNING,
    )


def compiled_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a model that :func:`compile_streams` compiles, by their names in it.

    Raises:
        ValueError: If the model has neither streams nor a backbone.
    """
    parts: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if isinstance(module, Stream)}
    if not parts:
        parts = {name: module for name, module in model.named_modules() if name.split('.')[-1] == 'backbone'}
    if not parts:
        raise ValueError(
            f'compile_streams: expected a model with streams or a backbone, got {type(model).__name__}. '
            "For a whole model write compile=True, which is mmengine's."
        )
    return parts


def check_compiler(device_type: str, backend: Any = 'inductor') -> None:
    """Raise early if ``torch.compile`` cannot work here; otherwise it would fail late and less clearly.

    Args:
        device_type (str): ``'cpu'``, ``'cuda'``.
        backend (Any): That of ``torch.compile``. Defaults to ``'inductor'``.

    Raises:
        ImportError: Names what is missing and how to get it, or what switches ``torch.compile`` off.
    """
    if compiler_is_off():
        raise ImportError('torch.compile is switched off by TORCH_COMPILE_DISABLE. Unset it, or do not compile.')
    if backend in _WITHOUT_COMPILER or callable(backend):
        return
    missing = missing_for_inductor(device_type)
    if missing:
        raise ImportError(f'torch.compile needs {missing}. Without it, do not compile.')
