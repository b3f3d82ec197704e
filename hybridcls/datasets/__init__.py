"""Datasets, the transforms of their images, and the samplers that make batches of them."""

from hybridcls.command_line import sentence_for
from hybridcls.compat.torch import carry_sentences_out_of_workers

from . import samplers, transforms
from .annotation_file import number_labels, read_annotations
from .digits import Digits
from .image_folder import ImageFolder

# Here, since a worker that is started anew imports this package to build its data set.
carry_sentences_out_of_workers(sentence_for)

__all__ = ['Digits', 'ImageFolder', 'number_labels', 'read_annotations', 'samplers', 'transforms']
