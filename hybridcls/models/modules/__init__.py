"""Modules that sit inside something: attention on maps, token summaries, projections, the data preprocessor."""

from .adaface_margin import AdaFaceMargin
from .arcface_margin import ArcFaceMargin
from .cbam import CBAM
from .class_wise_margin import ClassWiseMargin
from .combined_margin import CombinedMargin
from .cosface_margin import CosFaceMargin
from .data_preprocessor import HybridDataPreprocessor
from .feature_pooling import pool_feature
from .gradient_cache import GradientCache
from .projection import ProjectionMLP
from .sharded_rows import gather_whole, leave_to_processes, shard_rows, sharded_parameters
from .token_fuser import TokenFuser
from .token_learner import TokenLearner

__all__ = [
    'AdaFaceMargin',
    'ArcFaceMargin',
    'CBAM',
    'ClassWiseMargin',
    'CombinedMargin',
    'CosFaceMargin',
    'GradientCache',
    'HybridDataPreprocessor',
    'ProjectionMLP',
    'TokenFuser',
    'TokenLearner',
    'gather_whole',
    'leave_to_processes',
    'pool_feature',
    'shard_rows',
    'sharded_parameters',
]
