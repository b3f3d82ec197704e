"""Channels-last memory format of CNN streams in a training, by the key ``env_cfg.channels_last``."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .layers import ConfigError

__all__ = ['channels_last', 'set_memory_format']

_KEY = 'env_cfg.channels_last'


def channels_last(cfg: Config) -> Iterator[str]:
    """Check ``env_cfg.channels_last``.

    Args:
        cfg (Config): Read.

    Raises:
        ConfigError: If it is neither True, False nor None.
    """
    wanted = _wanted(cfg)
    if wanted not in (None, True, False):
        raise ConfigError(f'{_KEY}: expected True, False or None (where it was measured to be faster), got {wanted!r}.')
    yield from ()


def set_memory_format(cfg: Config, model: Any) -> str:
    """Set the memory format of a built model's CNN streams as the config says; return a sentence about it, or ''.

    True is channels last for all of them. None, the default, is so for the kinds of CNN that were measured to be
    faster: in float32 on a CPU, not compiled. A resumed training keeps what it had (:class:`ResumeHook`).
    """
    from hybridcls.models.backbones.channels_last import cnn_streams, gains_by_channels_last, set_channels_last

    streams, wanted = cnn_streams(model), _wanted(cfg)
    if wanted is None:
        is_measured = _on_cpu(model) and not _is_mixed(cfg) and not (cfg.get('env_cfg') or {}).get('compile_streams')
        names = [name for name, stream in streams.items() if is_measured and gains_by_channels_last(stream)]
    else:
        names = list(streams) if wanted else []
    set_channels_last(model, names)
    if not names:
        return f'{_KEY}=True: the model has no CNN stream, so nothing changes.' if wanted else ''
    why = '' if wanted else f', which is faster on a CPU; {_KEY}=False switches it off'
    return f'Channels last: {", ".join(names)}{why}.'


def _on_cpu(model: Any) -> bool:
    return all(param.device.type == 'cpu' for param in model.parameters())


def _is_mixed(cfg: Config) -> bool:
    wrapper = cfg.get('optim_wrapper') or {}
    return bool(wrapper.get('amp') or wrapper.get('dtype'))


def _wanted(cfg: Config) -> Any:
    return (cfg.get('env_cfg') or {}).get('channels_last')
