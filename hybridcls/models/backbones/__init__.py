"""Backbones: one or two streams over an image, each a timm model or any registered backbone."""

from .hybrid_backbone import HybridBackbone
from .registered_stream import RegisteredStream
from .timm_stream import TimmStream

__all__ = ['HybridBackbone', 'RegisteredStream', 'TimmStream']
