"""Labels and predictions of samples, class names, calibrations, and records in checkpoints."""

from .backward_compatible import record_compatible, recorded_compatible
from .calibration import Calibration
from .class_names import ClassNames, join_class_names
from .labels import read_hard_labels, read_multi_targets, read_targets
from .predictions import move_to_cpu, predicted_labels, write_predictions
from .preprocessing_version import PREPROCESSING_VERSION, record_version, recorded_version
from .unknown import UNKNOWN_LABEL, known_rows
from .views import count_views

__all__ = [
    'UNKNOWN_LABEL', 'Calibration', 'ClassNames', 'count_views', 'join_class_names', 'known_rows', 'move_to_cpu',
    'predicted_labels', 'read_hard_labels', 'read_multi_targets', 'read_targets', 'PREPROCESSING_VERSION',
    'record_compatible', 'record_version', 'recorded_compatible', 'recorded_version', 'write_predictions',
]  # fmt: skip
