"""mmengine's strategies, whose only address is a private module."""

from mmengine._strategy import FSDPStrategy

__all__ = ['FSDPStrategy']
