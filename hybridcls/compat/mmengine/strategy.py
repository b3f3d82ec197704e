"""Import mmengine's strategies from their private module."""

from mmengine._strategy import FSDPStrategy

__all__ = ['FSDPStrategy']
