"""Set mmengine's default device, which it otherwise chooses on import. Run with onedl-mmengine 0.10.12."""

from mmengine.device import utils

__all__ = ['set_device']


def set_device(kind: str) -> None:
    """Make ``mmengine.device.get_device()``, which the Runner and the inferencers call, return ``kind``."""
    utils.DEVICE = kind
