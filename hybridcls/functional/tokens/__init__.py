"""Tokens: which to merge, and one vector of many."""

from .feature_pooling import pool_feature
from .token_matching import (
    TokenMatching,
    match_tokens,
    merge_tokens,
    positions_after,
    proportional_bias,
    unmerge_tokens,
)

__all__ = [
    'TokenMatching',
    'match_tokens',
    'merge_tokens',
    'pool_feature',
    'positions_after',
    'proportional_bias',
    'unmerge_tokens',
]
