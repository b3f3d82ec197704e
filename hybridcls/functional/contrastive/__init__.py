"""Supervised contrast: the loss, and its two ways to the sum over the contrast set."""

from .dense_supcon import contrast_of_anchors
from .streamed_logsumexp import contrast_log_sums
from .supervised_contrast import supervised_contrast

__all__ = [
    'contrast_log_sums',
    'contrast_of_anchors',
    'supervised_contrast',
]
