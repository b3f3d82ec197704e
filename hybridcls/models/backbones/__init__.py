"""Backbones: two streams over one image; a stream is a timm model or any registered backbone."""

from .hybrid_backbone import HybridBackbone
from .registered_stream import RegisteredStream
from .timm_stream import TimmStream

__all__ = ['HybridBackbone', 'RegisteredStream', 'TimmStream']
