"""Losses: settings around the formulas of ``hybridcls.functional``."""

from .embedding_queue import EmbeddingQueue
from .evidential_loss import EvidentialLoss
from .learned_temperature import LearnedTemperature
from .supcon_loss import SupConLoss

__all__ = ['EmbeddingQueue', 'EvidentialLoss', 'LearnedTemperature', 'SupConLoss']
