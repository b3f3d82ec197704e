"""Samplers, which choose the images of each batch."""

from .dataset_labels import class_counts, labels_of
from .pk_sampler import PKSampler

__all__ = ['PKSampler', 'class_counts', 'labels_of']
