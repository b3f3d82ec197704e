"""A second forward pass of the same batch that equals the first: its random state, its pieces."""

from .gradient_cache import GradientCache
from .random_state import get_random_state, seed_generators, set_random_state

__all__ = [
    'GradientCache',
    'get_random_state',
    'seed_generators',
    'set_random_state',
]
