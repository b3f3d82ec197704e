"""Losses: modules with settings around the formulas of ``hybridcls.functional``."""

from .asymmetric_loss import AsymmetricLoss
from .backward_compat_loss import BackwardCompatLoss
from .embedding_queue import EmbeddingQueue
from .evidential_loss import EvidentialLoss
from .learned_temperature import LearnedTemperature
from .supcon_loss import SupConLoss

__all__ = [
    'AsymmetricLoss',
    'BackwardCompatLoss',
    'EmbeddingQueue',
    'EvidentialLoss',
    'LearnedTemperature',
    'SupConLoss',
]
