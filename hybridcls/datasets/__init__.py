"""Datasets, the transforms of their images, and the samplers that make batches of them."""

import hybridcls.compat.mmpretrain  # noqa: F401

from . import samplers, transforms
from .annotation_file import number_labels, read_annotations
from .digits import Digits
from .image_folder import ImageFolder

__all__ = ['Digits', 'ImageFolder', 'number_labels', 'read_annotations', 'samplers', 'transforms']
