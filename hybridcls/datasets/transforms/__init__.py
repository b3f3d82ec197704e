"""Transforms of one image, from the file to the batch."""

from .corrupt import CORRUPTIONS, SEVERITIES, Corrupt
from .decoding import ImageDepthError
from .fused_color_jitter import FusedColorJitter
from .image_views import ImageViews
from .load_image import LoadImage, UnreadableImageError
from .mark_unknown import MarkUnknown
from .pack_inputs import PackInputs
from .rand_augment import RandAugment
from .random_affine import RandomAffine
from .random_erasing import RandomErasing
from .resizing import CenterCropToSize, RandomCropToSize, ResizeToSize

__all__ = [
    'CenterCropToSize', 'Corrupt', 'CORRUPTIONS', 'FusedColorJitter', 'ImageDepthError', 'ImageViews', 'LoadImage',
    'MarkUnknown', 'PackInputs', 'RandAugment', 'RandomAffine', 'RandomCropToSize', 'RandomErasing', 'ResizeToSize',
    'SEVERITIES',
    'UnreadableImageError',
]  # fmt: skip
