"""Supervised contrastive loss, and three ways to sum over the contrast set."""

from .dense_supcon import dense_supcon
from .kernel_logsumexp import kernel_logsumexp, kernels_serve
from .streamed_logsumexp import streamed_logsumexp
from .supervised_contrast import supervised_contrast

__all__ = [
    'streamed_logsumexp',
    'dense_supcon',
    'kernel_logsumexp',
    'kernels_serve',
    'supervised_contrast',
]
