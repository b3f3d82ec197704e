"""Losses: settings around the formulas of ``hybridcls.functional``."""
from .supcon_loss import SupConLoss

__all__ = ['SupConLoss']
