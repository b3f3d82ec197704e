"""How fast a trained model answers by each setting, what that costs in accuracy, and the best of them."""

from .measuring import BenchmarkOptions, benchmark

__all__ = ['BenchmarkOptions', 'benchmark']
