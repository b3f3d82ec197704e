"""Transforms: what happens to one image between the file and the batch."""

from .decoding import ImageDepthError
from .load_image import PREPROCESSING_VERSION, LoadImage, UnreadableImageError
from .mark_unknown import MarkUnknown
from .random_affine import RandomAffine
from .resizing import CenterCropToSize, RandomCropToSize, ResizeToSize

__all__ = [
    'PREPROCESSING_VERSION',
    'CenterCropToSize',
    'ImageDepthError',
    'LoadImage',
    'MarkUnknown',
    'RandomAffine',
    'RandomCropToSize',
    'ResizeToSize',
    'UnreadableImageError',
]
