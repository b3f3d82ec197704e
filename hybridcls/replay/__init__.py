"""Repeat a forward pass exactly: recorded calls, random state, buffers, and batches in pieces."""

from .forward_call import ForwardCall
from .gradient_cache import GradientCache
from .mutable_state import MutableState
from .random_state import get_random_state, isolated_randomness, seed_generators, set_random_state

__all__ = [
    'ForwardCall',
    'GradientCache',
    'MutableState',
    'isolated_randomness',
    'get_random_state',
    'seed_generators',
    'set_random_state',
]
