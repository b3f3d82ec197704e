"""Metrics: what a validation reports."""
from .calibration_metric import CalibrationMetric
from .knn_accuracy import KNNAccuracy
from .metric_of import MetricOf
from .ood_metric import OODMetric
from .selective_metric import SelectiveMetric
from .val_loss import ValLoss

__all__ = ['CalibrationMetric', 'KNNAccuracy', 'MetricOf', 'OODMetric', 'SelectiveMetric', 'ValLoss']
