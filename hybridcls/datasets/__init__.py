"""Datasets, transforms of their images, and samplers that draw batches."""

import hybridcls.compat.mmpretrain_datasets  # noqa: F401
from hybridcls.command_line import explain_error
from hybridcls.compat.torch import carry_sentences_out_of_workers

from . import samplers, transforms
from .annotation_file import number_labels, read_annotations
from .class_numbering import ClassNumbering, class_names_of
from .concat_dataset import ConcatDataset
from .digits import Digits
from .image_folder import ImageFolder

# Here, since a spawned worker imports this package to build its dataset.
carry_sentences_out_of_workers(explain_error)

__all__ = [
    'ClassNumbering', 'ConcatDataset', 'Digits', 'ImageFolder', 'class_names_of', 'number_labels',
    'read_annotations', 'samplers', 'transforms',
]  # fmt: skip
