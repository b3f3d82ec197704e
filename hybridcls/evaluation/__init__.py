"""Metrics: what a validation reports."""

from .accuracy import Accuracy
from .calibration_metric import CalibrationMetric
from .knn_accuracy import KNNAccuracy
from .metric_of import MetricOf
from .ood_metric import OODMetric
from .retrieval_metric import RetrievalMetric
from .selective_metric import SelectiveMetric
from .val_loss import ValLoss
from .verification_metric import VerificationMetric

__all__ = [
    'Accuracy',
    'CalibrationMetric',
    'KNNAccuracy',
    'MetricOf',
    'OODMetric',
    'RetrievalMetric',
    'SelectiveMetric',
    'ValLoss',
    'VerificationMetric',
]
