"""Datasets, the transforms of their images, and the samplers that make batches of them."""
from . import samplers, transforms
from .digits import Digits

__all__ = ['Digits', 'samplers', 'transforms']
