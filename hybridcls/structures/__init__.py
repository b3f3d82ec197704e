"""What travels between the parts: labels read from samples, predictions written onto them, how images were read."""

from .labels import read_hard_labels, read_targets
from .predictions import write_predictions
from .preprocessing_version import PREPROCESSING_VERSION, record_version, recorded_version
from .unknown import UNKNOWN_LABEL, known_rows
from .views import count_views

__all__ = [
    'PREPROCESSING_VERSION',
    'UNKNOWN_LABEL',
    'count_views',
    'known_rows',
    'read_hard_labels',
    'read_targets',
    'record_version',
    'recorded_version',
    'write_predictions',
]
