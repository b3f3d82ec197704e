"""Datasets, the transforms of their images, and the samplers that make batches of them."""

import hybridcls.compat.mmpretrain  # noqa: F401

from . import samplers, transforms
from .annotation_file import number_labels, read_annotations
from .class_numbering import ClassNumbering, class_names_of
from .concat_dataset import ConcatDataset
from .digits import Digits
from .image_folder import ImageFolder

__all__ = [
    'ClassNumbering',
    'ConcatDataset',
    'Digits',
    'ImageFolder',
    'class_names_of',
    'number_labels',
    'read_annotations',
    'samplers',
    'transforms',
]
