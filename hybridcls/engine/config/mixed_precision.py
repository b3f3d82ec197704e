"""Set mixed precision for any optimizer wrapper on any device, for ``--amp`` or a base config."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Union

from mmengine.config import Config

from .change import Change, layer_of
from .layers import ConfigError
from .tree import ABSENT, class_of, is_a

__all__ = ['evaluation_precision', 'is_shipped', 'mixed_precision']

_AMP = ('optim_wrapper', 'amp')


def mixed_precision(cfg: Config, asked: bool) -> Iterator[Union[Change, str]]:
    """Enable mixed precision, or adapt a base config's mixed precision to the device.

    bfloat16, which needs no scaler, where the device computes with it (CPU, NVIDIA Ampere and newer), else float16 with
    a loss scaler. A type that the config writes stays. mmengine's OptimWrapper becomes ComposedOptimWrapper, which
    without stages does the same; its AmpOptimWrapper, which works on no CPU, keeps ``dtype`` and ``loss_scale`` on the
    way.

    Args:
        cfg (Config): Read.
        asked (bool): Whether ``--amp`` was given.

    Raises:
        ConfigError: If the wrapper is one whose precision we do not know how to set, or bfloat16 is written in the
            user's own config and the device has none.
    """
    import torch
    from mmengine.device import get_device
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    from hybridcls.engine.optim import ComposedOptimWrapper

    wrapper = cfg.optim_wrapper
    has_bfloat16 = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    best = 'bfloat16' if has_bfloat16 else 'float16'
    typed = {'type': 'OptimWrapper', **wrapper}
    kind, is_ours = class_of('OPTIM_WRAPPERS', typed), is_a('OPTIM_WRAPPERS', typed, ComposedOptimWrapper)
    if is_ours and wrapper.get('amp') == 'bfloat16' and not has_bfloat16:
        layer = layer_of(cfg, _AMP)
        if not is_shipped(layer.name):
            raise ConfigError(
                "optim_wrapper.amp='bfloat16': this device computes with float16 only. Set "
                "optim_wrapper.amp='float16', which scales the loss by itself."
            )
        yield Change(_AMP, 'bfloat16', 'float16', 'this device has no bfloat16; with a loss scaler', 'device')
    if not asked:
        if is_a('OPTIM_WRAPPERS', typed, AmpOptimWrapper) and get_device() in ('cpu', 'mps'):
            raise ConfigError(
                f'optim_wrapper.type={kind.__name__!r} works on a GPU only, and there is none. '
                "Set optim_wrapper.type='ComposedOptimWrapper' and optim_wrapper.amp='bfloat16', or add --amp."
            )
        return
    if any(isinstance(one, dict) and 'optimizer' in one for one in wrapper.values()):
        raise ConfigError(
            '--amp: expected one optimizer wrapper, got one for each of several optimizers. Set the precision of each '
            'in the config.'
        )
    if is_ours:
        if wrapper.get('amp') is None:
            yield Change(_AMP, wrapper.get('amp', ABSENT), best, '--amp')
        else:
            yield f'--amp: the config sets optim_wrapper.amp={wrapper["amp"]!r}, which is kept.'
    elif kind is AmpOptimWrapper and torch.cuda.is_available():
        if wrapper.get('loss_scale') is None:
            yield Change(('optim_wrapper', 'loss_scale'), wrapper.get('loss_scale', ABSENT), 'dynamic', '--amp')
    elif kind in (OptimWrapper, AmpOptimWrapper):
        yield Change(('optim_wrapper', 'type'), wrapper.get('type', ABSENT), 'ComposedOptimWrapper', '--amp', '--amp')
        if wrapper.get('dtype') is None:  # the other name of the same key, which AmpOptimWrapper has
            yield Change(_AMP, ABSENT, best, '--amp')
    else:
        name = getattr(kind, '__name__', wrapper.get('type'))
        raise ConfigError(
            f'--amp: expected optim_wrapper.type to be OptimWrapper, AmpOptimWrapper or ComposedOptimWrapper (or a '
            f'class of these), got {name!r}. Set its precision in the config.'
        )


def evaluation_precision(cfg: Config) -> Iterator[str]:
    """Check that mmengine's loops can evaluate in mixed precision here, if a config or ``--amp`` requests it.

    Args:
        cfg (Config): Read.

    Raises:
        ConfigError: If it cannot on the device (MPS).
    """
    from mmengine.device import get_device
    from mmengine.runner import autocast

    for key in ('val_cfg', 'test_cfg'):
        if (cfg.get(key) or {}).get('fp16'):
            kind = get_device()
            try:
                with autocast(device_type=kind):
                    pass
            except ValueError as error:  # it has a list of its own
                raise ConfigError(
                    f'{key}.fp16=True: mmengine does not evaluate in mixed precision on {kind}. Leave it (or --amp) '
                    'out, or add --device cpu.'
                ) from error
    yield from ()


def is_shipped(file: str) -> bool:
    """Return whether a file is one of the configs that hybridcls ships."""
    from hybridcls import config_path

    return FilePath(config_path('')).resolve() in FilePath(file).resolve().parents
