"""Transforms: what happens to one image between the file and the batch."""

from .load_image import LoadImage, UnreadableImageError
from .mark_unknown import MarkUnknown
from .random_affine import RandomAffine
from .resizing import CenterCropToSize, RandomCropToSize, ResizeToSize

__all__ = [
    'CenterCropToSize',
    'LoadImage',
    'MarkUnknown',
    'RandomAffine',
    'RandomCropToSize',
    'ResizeToSize',
    'UnreadableImageError',
]
