"""Multi-label classification: the asymmetric loss, and a threshold for each class."""

from .asymmetric_cross_entropy import asymmetric_loss
from .threshold_choice import ThresholdChoice, f1_thresholds, precision_thresholds

__all__ = ['ThresholdChoice', 'asymmetric_loss', 'f1_thresholds', 'precision_thresholds']
