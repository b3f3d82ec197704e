"""Tokens: matching and merging, and pooling to one vector."""

from .feature_pooling import pool_feature
from .token_matching import (
    TokenMatching,
    match_tokens,
    merge_tokens,
    merged_index_after,
    proportional_bias,
    unmerge_tokens,
)

__all__ = [
    'TokenMatching',
    'match_tokens',
    'merge_tokens',
    'pool_feature',
    'merged_index_after',
    'proportional_bias',
    'unmerge_tokens',
]

positions_after = merged_index_after  # its name in 0.1
