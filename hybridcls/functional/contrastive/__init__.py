"""Supervised contrast: the loss, and its two ways to the sum over the contrast set."""

from .dense_supcon import dense_supcon
from .streamed_logsumexp import streamed_logsumexp
from .supervised_contrast import supervised_contrast

__all__ = [
    'streamed_logsumexp',
    'dense_supcon',
    'supervised_contrast',
]
