"""A plugin that lives outside the package: a way of fusing the two streams."""

from .low_rank_bilinear_fusion import LowRankBilinearFusion

__all__ = ['LowRankBilinearFusion']
