"""Modules that sit inside something: attention on maps, token summaries, projections, the data preprocessor."""
from .cbam import CBAM
from .data_preprocessor import HybridDataPreprocessor
from .feature_pooling import pool_feature
from .token_learner import TokenLearner

__all__ = ['CBAM', 'HybridDataPreprocessor', 'TokenLearner', 'pool_feature']
