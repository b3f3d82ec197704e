"""Metrics of validations and tests."""

from .accuracy import Accuracy
from .answered_metric import AnsweredMetric
from .calibration_metric import CalibrationMetric
from .class_report import ClassReport
from .dump_results import DumpResults
from .feature_ood_metric import FeatureOODMetric
from .head_metric import HeadMetric, MetricOf
from .knn_accuracy import KNNAccuracy
from .linear_probe_accuracy import LinearProbeAccuracy
from .mmpretrain_metrics import (
    ConfusionMatrix,
    RetrievalAveragePrecision,
    RetrievalRecall,
    SingleLabelMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from .multi_label_metrics import AveragePrecision, MultiLabelMetric
from .ood_metric import OODMetric
from .prediction_fields import MissingFieldError
from .retrieval_metric import RetrievalMetric
from .selective_metric import SelectiveMetric
from .val_loss import ValLoss
from .verification_metric import VerificationMetric

__all__ = [
    'Accuracy', 'AnsweredMetric', 'AveragePrecision', 'CalibrationMetric', 'ClassReport', 'ConfusionMatrix',
    'DumpResults', 'FeatureOODMetric', 'HeadMetric', 'KNNAccuracy', 'LinearProbeAccuracy', 'MetricOf',
    'MissingFieldError', 'MultiLabelMetric', 'OODMetric', 'RetrievalAveragePrecision', 'RetrievalMetric',
    'RetrievalRecall', 'SelectiveMetric', 'SingleLabelMetric', 'ValLoss', 'VerificationMetric', 'VOCAveragePrecision',
    'VOCMultiLabelMetric',
]  # fmt: skip
