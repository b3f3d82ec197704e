"""Class imbalance: class weights from counts, and logit adjustment by class frequencies."""

from .class_weights import balanced_class_weights, effective_class_weights
from .logit_adjustment import adjustment_term, log_priors

__all__ = ['adjustment_term', 'balanced_class_weights', 'effective_class_weights', 'log_priors']
