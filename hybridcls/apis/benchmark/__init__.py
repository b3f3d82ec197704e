"""Measure the speed of a trained model with each setting, the loss of accuracy, and the best setting."""

from .measuring import BenchmarkOptions, benchmark

__all__ = ['BenchmarkOptions', 'benchmark']
