"""mmpretrain's classification metrics, with directions, units and label checks."""

from collections.abc import Sequence
from typing import Any, ClassVar, Optional

from mmpretrain.evaluation import AveragePrecision as _AveragePrecision
from mmpretrain.evaluation import ConfusionMatrix as _ConfusionMatrix
from mmpretrain.evaluation import MultiLabelMetric as _MultiLabelMetric
from mmpretrain.evaluation import SingleLabelMetric as _SingleLabelMetric

from hybridcls.registry import METRICS

from .own_storage import OwnRows
from .prediction_fields import check_labelled

__all__ = ['AveragePrecision', 'ConfusionMatrix', 'Labelled', 'MultiLabelMetric', 'SingleLabelMetric']

_DIRECTIONS: dict[str, Optional[str]] = {
    '*_classwise': None,  # a list
    'precision*': 'greater',
    'recall*': 'greater',
    'f1-score*': 'greater',
    'support*': None,
}
_UNITS = {'support*': 'images', '*': '%'}


class Labelled(OwnRows):
    """Add a check of the labels and small rows to a metric."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check the labels, and process the batch."""
        for sample in data_samples:
            check_labelled(type(self).__name__, sample)
        super().process(data_batch, data_samples)


@METRICS.register_module()
class SingleLabelMetric(Labelled, _SingleLabelMetric):
    """mmpretrain's ``SingleLabelMetric``: precision, recall, F1 and support of classes."""

    directions = _DIRECTIONS
    units = _UNITS


@METRICS.register_module()
class MultiLabelMetric(Labelled, _MultiLabelMetric):
    """mmpretrain's ``MultiLabelMetric``: the same for multi-label images."""

    directions = _DIRECTIONS
    units = _UNITS


@METRICS.register_module()
class AveragePrecision(Labelled, _AveragePrecision):
    """mmpretrain's ``AveragePrecision`` for multi-label images."""

    directions: ClassVar = {'mAP': 'greater', 'AP_classwise': None}
    units: ClassVar = {'*': '%'}


@METRICS.register_module()
class ConfusionMatrix(Labelled, _ConfusionMatrix):
    """mmpretrain's ``ConfusionMatrix``, a tensor (C, C) of images by true and predicted class."""

    directions: ClassVar = {'result': None}
