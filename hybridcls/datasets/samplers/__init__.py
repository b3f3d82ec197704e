"""Samplers choose the images of a batch."""

from .dataset_labels import labels_of
from .pk_sampler import PKSampler

__all__ = ['PKSampler', 'labels_of']
