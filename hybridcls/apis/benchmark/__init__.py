"""Benchmark a trained model: speed, memory and accuracy of each inference setting, and the best of them."""

from .measuring import BenchmarkOptions, benchmark

__all__ = ['BenchmarkOptions', 'benchmark']
