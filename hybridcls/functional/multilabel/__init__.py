"""Several labels an image, or none: the asymmetric loss, and thresholds that are chosen for each class."""

from .asymmetric_cross_entropy import asymmetric_loss
from .threshold_choice import ThresholdChoice, f1_thresholds, precision_thresholds

__all__ = ['ThresholdChoice', 'asymmetric_loss', 'f1_thresholds', 'precision_thresholds']
