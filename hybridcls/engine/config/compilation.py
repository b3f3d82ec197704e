"""``torch.compile`` of the streams in a training, by the key ``env_cfg.compile_streams``."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config

from hybridcls.checks import did_you_mean
from hybridcls.compat import torch_compiler

from .change import Change
from .layers import ConfigError
from .tree import ABSENT

__all__ = ['check_compilation', 'compilation', 'compile_model']

_KEY = 'env_cfg.compile_streams'
_WHOLE = ('SingleDeviceStrategy', 'DDPStrategy')


def compilation(cfg: Config, asked: bool) -> Iterator[Change]:
    """Check ``env_cfg.compile_streams``, and set it for ``--compile``; arguments set by the user stay.

    Args:
        cfg (Config): Read.
        asked (bool): Whether ``--compile`` was given.

    Raises:
        ConfigError: If it is neither a bool nor arguments of ``torch.compile``, or the config has mmengine's
            ``compile`` or a strategy that shards weights, too.
    """
    from hybridcls.models.backbones.compiled_streams import COMPILE_OPTIONS

    wanted = _wanted(cfg)
    if not (wanted is None or isinstance(wanted, (bool, dict))):
        raise ConfigError(f"{_KEY}: expected True, False or a dict (mode='max-autotune'), got {wanted!r}.")
    for name in wanted if isinstance(wanted, dict) else ():
        if name not in COMPILE_OPTIONS:
            raise ConfigError(
                f'{_KEY}: expected arguments of torch.compile, got {name!r}.{did_you_mean(name, COMPILE_OPTIONS)} '
                f'Known: {", ".join(COMPILE_OPTIONS)}.'
            )
    is_on = asked or _is_on(wanted)
    if is_on and cfg.get('compile'):
        raise ConfigError(
            f'{_KEY} compiles the streams, and compile={cfg.compile!r} makes mmengine compile the whole training step '
            'around them. Set compile=False.'
        )
    strategy = str((cfg.get('strategy') or {}).get('type', _WHOLE[0])).rpartition('.')[2]
    if is_on and strategy not in _WHOLE:
        raise ConfigError(
            f'{_KEY}: expected a training whose processes hold whole weights (one process, or DDP), got {strategy}: '
            'inductor fails on shards of weights. Leave out one of the two.'
        )
    if asked and not _is_on(wanted):
        old = ABSENT if wanted is None else wanted
        yield Change(('env_cfg', 'compile_streams'), old, True, '--compile', '--compile')


def check_compilation(cfg: Config) -> None:
    """Raise a ConfigError if streams are to be compiled and a requirement for that is not installed."""
    wanted = _wanted(cfg)
    if not _is_on(wanted) or torch_compiler.compiler_is_off():
        return
    if not torch_compiler.COMPILES_THAWED_WEIGHTS:
        raise ConfigError(
            f'{_KEY}: expected torch 2.14 or newer for a training, got {torch.__version__}: with older '
            'ones weights that thaw in a training (as after head_first) may get no gradients. Upgrade torch, or leave '
            'it out.'
        )
    from mmengine.device import get_device

    from hybridcls.models.backbones.compiled_streams import check_compiler

    try:
        check_compiler(get_device(), dict(wanted if isinstance(wanted, dict) else {}).get('backend', 'inductor'))
    except ImportError as error:
        raise ConfigError(f'{_KEY}: {error}') from error


def compile_model(cfg: Config, model: Any) -> str:
    """Compile the streams of a built model as the config says; return a sentence about it, or an empty string."""
    from hybridcls.models.backbones.compiled_streams import compile_streams

    wanted = _wanted(cfg)
    if not _is_on(wanted):
        return ''
    if torch_compiler.compiler_is_off():
        return f'{_KEY}: TORCH_COMPILE_DISABLE is set, so nothing is compiled.'
    names = compile_streams(model, **(wanted if isinstance(wanted, dict) else {}))
    return (
        f'torch.compile: {", ".join(names)}. The first steps compile, and so do the first validation and batches of '
        'another size: that takes minutes for large models.'
    )


def _is_on(wanted: Any) -> bool:
    return wanted is True or isinstance(wanted, dict)


def _wanted(cfg: Config) -> Any:
    return (cfg.get('env_cfg') or {}).get('compile_streams')
