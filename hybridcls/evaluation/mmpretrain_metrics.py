"""mmpretrain's single-label, retrieval and VOC metrics, with directions, units and label checks."""

from collections.abc import Sequence
from typing import Any, ClassVar, Optional

import torch
from mmpretrain.evaluation import ConfusionMatrix as _ConfusionMatrix
from mmpretrain.evaluation import RetrievalAveragePrecision as _RetrievalAveragePrecision
from mmpretrain.evaluation import RetrievalRecall as _RetrievalRecall
from mmpretrain.evaluation import SingleLabelMetric as _SingleLabelMetric
from mmpretrain.evaluation import VOCAveragePrecision as _VOCAveragePrecision
from mmpretrain.evaluation import VOCMultiLabelMetric as _VOCMultiLabelMetric

from hybridcls.old_modules import answer_old_names
from hybridcls.registry import METRICS

from .own_storage import OwnRows
from .prediction_fields import NO_IMAGE, check_labelled, check_one_class
from .result_names import without_result

__all__ = [
    'ConfusionMatrix', 'Labelled', 'RetrievalAveragePrecision', 'RetrievalRecall', 'SingleLabelMetric',
    'SingleLabelled', 'VOCAveragePrecision', 'VOCMultiLabelMetric',
]  # fmt: skip

DIRECTIONS: dict[str, Optional[str]] = {
    '*_classwise': None,  # a list
    'precision*': 'greater',
    'recall*': 'greater',
    'f1-score*': 'greater',
    'support*': None,
}
UNITS = {'support*': 'images', '*': '%'}


class Labelled(OwnRows):
    """Mixin that checks the labels and copies rows out of their batch."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check the labels, and process the batch."""
        for sample in data_samples:
            check_labelled(type(self).__name__, sample)
        super().process(data_batch, data_samples)


class SingleLabelled(Labelled):
    """Mixin that also checks that each image has one class."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check that there is one class an image, and process the batch."""
        for sample in data_samples:
            check_one_class(type(self).__name__, sample)
        super().process(data_batch, data_samples)


class _OfKnownClasses(SingleLabelled):
    """Mixin that also rejects images of classes unknown to the model."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Check that each image has a class of the model, and process the batch."""
        for sample in data_samples:
            labels, scores = torch.as_tensor(sample.get('gt_label', ())), sample.get('pred_score')
            if scores is not None and (labels >= len(scores)).any():
                raise ValueError(
                    f'{type(self).__name__}: expected images of the {len(scores)} classes of the model, got one of '
                    'another class. Use ClassReport, which counts such images, or leave them out.'
                )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Compute the results. Runs in the main process, with each image once."""
        return super().compute_metrics(results) if results else without_result(self, NO_IMAGE)  # type: ignore[misc]


@METRICS.register_module()
class SingleLabelMetric(_OfKnownClasses, _SingleLabelMetric):
    """mmpretrain's ``SingleLabelMetric``: precision, recall, F1 and support of classes.

    Of equal scores the class with the smaller number is predicted, as in ``argmax`` and in ``Accuracy`` (mmpretrain
    takes any of them), and an image with a score that is NaN is predicted as no class.
    """

    directions = DIRECTIONS
    units = UNITS

    @staticmethod
    def calculate(
        pred: Any,
        target: Any,
        thrs: Sequence[Optional[float]] = (0.0,),
        average: Optional[str] = 'macro',
        num_classes: Optional[int] = None,
    ) -> Any:
        """Calculate as mmpretrain does, from labels (N,) or from scores (N, C)."""
        pred = torch.as_tensor(pred)
        if pred.ndim == 2:
            first = torch.zeros_like(pred, dtype=torch.bool).scatter_(1, pred.argmax(1, keepdim=True), True)
            pred = pred.masked_fill(~first | pred.isnan().any(1, keepdim=True), -torch.inf)
            thrs = [-torch.inf if threshold is None else threshold for threshold in thrs]  # of a NaN nothing is above
        return _SingleLabelMetric.calculate(pred, target, thrs, average, num_classes)


@METRICS.register_module()
class ConfusionMatrix(_OfKnownClasses, _ConfusionMatrix):
    """mmpretrain's ``ConfusionMatrix``, a tensor (C, C) of images by true and predicted class.

    An image with a score that is NaN is predicted as no class: it is left out, and a warning counts such images.
    """

    directions: ClassVar = {'result': None}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the label and the predicted class of each image; -1 where a score is NaN."""
        kept = len(self.results)
        super().process(data_batch, data_samples)
        for result, sample in zip(self.results[kept:], data_samples, strict=True):
            if sample.get('pred_score') is not None and sample['pred_score'].isnan().any():
                result['pred_label'] = torch.full_like(result['pred_label'], -1)

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Count. Runs in the main process, with each image once."""
        counted = [result for result in results if (result['pred_label'] >= 0).all()]
        if len(counted) < len(results):
            why = f'{len(results) - len(counted)} of {len(results)} images have a score that is NaN.'
            without_result(self, why, ['place in the matrix for them'] if counted else ())
        return super().compute_metrics(counted) if counted or not results else {}


@METRICS.register_module()
class RetrievalRecall(Labelled, _RetrievalRecall):
    """mmpretrain's ``RetrievalRecall``, of a retriever with its own gallery: ``Recall@k`` in percent."""

    directions: ClassVar = {'Recall@*': 'greater'}
    units: ClassVar = {'*': '%'}


@METRICS.register_module()
class RetrievalAveragePrecision(Labelled, _RetrievalAveragePrecision):
    """mmpretrain's ``RetrievalAveragePrecision``, of a retriever with its own gallery: ``mAP@k`` in percent.

    mmpretrain averages the images of one process, with those that pad its batches; here each image counts once.
    """

    directions: ClassVar = {'mAP@*': 'greater'}
    units: ClassVar = {'*': '%'}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        return {f'mAP@{self.topk}': float(sum(map(float, results)) / len(results))}


@METRICS.register_module()
class VOCMultiLabelMetric(Labelled, _VOCMultiLabelMetric):
    """mmpretrain's ``VOCMultiLabelMetric``: precision, recall, F1 and support, without difficult objects."""

    directions = DIRECTIONS
    units = UNITS


@METRICS.register_module()
class VOCAveragePrecision(Labelled, _VOCAveragePrecision):
    """mmpretrain's ``VOCAveragePrecision``: mean average precision, without difficult objects."""

    directions: ClassVar = {'mAP': 'greater', 'AP_classwise': None}
    units: ClassVar = {'*': '%'}


answer_old_names(globals())
