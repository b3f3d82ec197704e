"""mmpretrain's metrics of one class an image, with directions, units and label checks."""

from collections.abc import Sequence
from typing import Any, ClassVar, Optional

from mmpretrain.evaluation import ConfusionMatrix as _ConfusionMatrix
from mmpretrain.evaluation import SingleLabelMetric as _SingleLabelMetric

from hybridcls.old_modules import answer_old_names
from hybridcls.registry import METRICS

from .own_storage import OwnRows
from .prediction_fields import check_labelled, check_one_class

__all__ = ['ConfusionMatrix', 'Labelled', 'SingleLabelMetric', 'SingleLabelled']

DIRECTIONS: dict[str, Optional[str]] = {
    '*_classwise': None,  # a list
    'precision*': 'greater',
    'recall*': 'greater',
    'f1-score*': 'greater',
    'support*': None,
}
UNITS = {'support*': 'images', '*': '%'}


class Labelled(OwnRows):
    """Add a check of the labels and small rows to a metric."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check the labels, and process the batch."""
        for sample in data_samples:
            check_labelled(type(self).__name__, sample)
        super().process(data_batch, data_samples)


class SingleLabelled(Labelled):
    """The same, and each image must have one class."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check that there is one class an image, and process the batch."""
        for sample in data_samples:
            check_one_class(type(self).__name__, sample)
        super().process(data_batch, data_samples)


@METRICS.register_module()
class SingleLabelMetric(SingleLabelled, _SingleLabelMetric):
    """mmpretrain's ``SingleLabelMetric``: precision, recall, F1 and support of classes."""

    directions = DIRECTIONS
    units = UNITS


@METRICS.register_module()
class ConfusionMatrix(SingleLabelled, _ConfusionMatrix):
    """mmpretrain's ``ConfusionMatrix``, a tensor (C, C) of images by true and predicted class."""

    directions: ClassVar = {'result': None}


answer_old_names(globals())
