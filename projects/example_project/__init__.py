"""A plugin outside the package: a neck that fuses the two streams."""

from .low_rank_bilinear_fusion import LowRankBilinearFusion

__all__ = ['LowRankBilinearFusion']
