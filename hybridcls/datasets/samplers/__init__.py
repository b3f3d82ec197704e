"""Samplers: which images meet in a batch."""
from .labels import labels_of
from .pk_sampler import PKSampler

__all__ = ['PKSampler', 'labels_of']
