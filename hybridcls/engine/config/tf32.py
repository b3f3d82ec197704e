"""TF32 for matrix products and convolutions of a run on a GPU, by the key ``env_cfg.tf32``."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .layers import ConfigError

__all__ = ['switch_tf32', 'tf32']


def tf32(cfg: Config) -> Iterator[str]:
    """Check ``env_cfg.tf32``, and log its effect if there is a GPU; on a CPU nothing is logged.

    Args:
        cfg (Config): Read.

    Raises:
        ConfigError: If it is neither True, False nor None.
    """
    import torch

    wanted = _wanted(cfg)
    if wanted not in (None, True, False):
        raise ConfigError(f'env_cfg.tf32: expected True, False or None (the default of torch), got {wanted!r}.')
    if wanted and torch.cuda.is_available():
        yield (
            'env_cfg.tf32=True: the GPU multiplies float32 matrices and convolves in TF32 (10 bits of fraction, sums '
            'in float32). Losses and metrics of hybridcls keep float32; a margin head has head_precision. False '
            'switches it off.'
        )


def switch_tf32(cfg: Config) -> None:
    """Enable or disable TF32 in this process by ``env_cfg.tf32``; without the key or a GPU, change nothing."""
    import torch

    wanted = _wanted(cfg)
    if wanted is not None and torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted


def _wanted(cfg: Config) -> Any:
    return (cfg.get('env_cfg') or {}).get('tf32')
