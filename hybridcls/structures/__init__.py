"""What travels between the parts: labels read from samples, predictions written onto them."""
from .labels import read_hard_labels, read_targets
from .predictions import write_predictions
from .views import count_views

__all__ = ['count_views', 'read_hard_labels', 'read_targets', 'write_predictions']
