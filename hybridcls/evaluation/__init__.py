"""Metrics of validations and tests."""

from .accuracy import Accuracy
from .answered_metric import AnsweredMetric
from .calibration_metric import CalibrationMetric
from .dump_results import DumpResults
from .head_metric import HeadMetric, MetricOf
from .knn_accuracy import KNNAccuracy
from .mmpretrain_metrics import ConfusionMatrix, SingleLabelMetric
from .multi_label_metrics import AveragePrecision, MultiLabelMetric
from .ood_metric import OODMetric
from .prediction_fields import MissingFieldError
from .retrieval_metric import RetrievalMetric
from .selective_metric import SelectiveMetric
from .val_loss import ValLoss
from .verification_metric import VerificationMetric

__all__ = [
    'Accuracy', 'AnsweredMetric', 'AveragePrecision', 'CalibrationMetric', 'ConfusionMatrix', 'DumpResults',
    'HeadMetric', 'KNNAccuracy', 'MetricOf', 'MissingFieldError', 'MultiLabelMetric', 'OODMetric', 'RetrievalMetric',
    'SelectiveMetric', 'SingleLabelMetric', 'ValLoss', 'VerificationMetric',
]  # fmt: skip
