"""Losses: settings around the formulas of ``hybridcls.functional``."""
from .evidential_loss import EvidentialLoss
from .supcon_loss import SupConLoss

__all__ = ['EvidentialLoss', 'SupConLoss']
