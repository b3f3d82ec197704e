"""mmengine chooses the device of all models when it is imported. Run with onedl-mmengine 0.10.12."""

from mmengine.device import utils

__all__ = ['set_device']


def set_device(kind: str) -> None:
    """Let ``mmengine.device.get_device()``, which the Runner and the inferencers ask, answer ``kind``."""
    utils.DEVICE = kind
