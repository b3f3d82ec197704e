"""Necks, which fuse the streams' features into one embedding."""

from .concat_fusion import ConcatFusion
from .dha_fusion import DHAFusion
from .fusion import FusionNeck
from .sum_fusion import SumFusion

__all__ = ['ConcatFusion', 'DHAFusion', 'FusionNeck', 'SumFusion']
