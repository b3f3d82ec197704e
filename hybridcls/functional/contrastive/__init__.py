"""Supervised contrastive loss, and two ways to sum over the contrast set."""

from .dense_supcon import dense_supcon
from .streamed_logsumexp import streamed_logsumexp
from .supervised_contrast import supervised_contrast

__all__ = [
    'streamed_logsumexp',
    'dense_supcon',
    'supervised_contrast',
]
