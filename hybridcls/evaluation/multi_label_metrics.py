"""Metrics of several labels an image, or none."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Optional

import torch
from mmengine.logging import print_log
from mmpretrain.evaluation import AveragePrecision as _AveragePrecision
from mmpretrain.evaluation import MultiLabelMetric as _MultiLabelMetric
from torch import Tensor

from hybridcls.checks import check_choice, counted, listed
from hybridcls.functional.metrics import aupr
from hybridcls.registry import METRICS

from .mmpretrain_metrics import DIRECTIONS, UNITS, Labelled
from .prediction_fields import NO_IMAGE
from .result_names import without_result

__all__ = ['AveragePrecision', 'MultiLabelMetric']


class _MultiLabelled(Labelled):
    """Mixin that gives mmpretrain's metrics a ``gt_score`` (C,) of each image, without classes unknown to the model."""

    dataset_meta: Optional[dict]
    _said = ''

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Process the batch."""
        super().process(data_batch, [self.prepared(sample) for sample in data_samples])

    def prepared(self, sample: dict) -> dict:
        """Return the sample in the format of mmpretrain's metric."""
        if sample.get('gt_score') is not None or sample.get('gt_label') is None or sample.get('pred_score') is None:
            return sample
        labels = torch.as_tensor(sample['gt_label']).long().reshape(-1)
        score = torch.zeros(len(sample['pred_score']), dtype=torch.int64, device=labels.device)
        score[labels[(labels >= 0) & (labels < len(score))]] = 1
        return {**sample, 'gt_score': score}

    def warn_of_absent(self, positives: Tensor, what: str) -> None:
        """Name the classes without positives, once."""
        absent = (positives == 0).nonzero().flatten().tolist()
        names = (self.dataset_meta or {}).get('classes') or ()
        text = listed((names[number] if number < len(names) else str(number) for number in absent), 20)
        if absent and text != self._said:
            self._said = text
            print_log(
                f'{type(self).__name__}: {counted(len(absent), "class", "classes", of=len(positives))} without an '
                f'image among those evaluated ({text}); they {what}.',
                'current',
                logging.WARNING,
            )


@METRICS.register_module()
class MultiLabelMetric(_MultiLabelled, _MultiLabelMetric):
    """mmpretrain's ``MultiLabelMetric``: precision, recall, F1 and support, at the thresholds of the predictions.

    With neither ``thr`` nor ``topk`` a class is predicted where the head says so (``MultiLabelHead``, whose thresholds
    may differ from class to class); of a head without thresholds from a score of 0.5 on, as in mmpretrain. A class
    without images counts as 0 in the averages over classes, as in scikit-learn, and is named in a warning.

    Args:
        thr (float, optional): One threshold for all scores. Defaults to None.
        topk (int, optional): The k classes with the largest scores are predicted. Defaults to None.
        **kwargs: ``items``, ``average``, ``collect_device`` and ``prefix``, as in mmpretrain.
    """

    directions = DIRECTIONS
    units = UNITS

    def __init__(self, thr: Optional[float] = None, topk: Optional[int] = None, **kwargs: Any) -> None:
        self.by_head = thr is None and topk is None
        super().__init__(0.5 if self.by_head else thr, topk, **kwargs)

    def prepared(self, sample: dict) -> dict:
        """Return the sample with the head's decisions, 1 or 0, as its scores."""
        sample = super().prepared(sample)
        if not self.by_head or sample.get('thresholds') is None:
            return sample
        return {**sample, 'pred_score': (sample['pred_score'] >= sample['thresholds']).float()}

    def compute_metrics(self, results: list[dict]) -> dict[str, Any]:
        """Compute the results. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        self.warn_of_absent(sum(result['gt_score'] == 1 for result in results), 'count as 0 in averages over classes')
        return super().compute_metrics(results)


@METRICS.register_module()
class AveragePrecision(_MultiLabelled, _AveragePrecision):
    """Mean average precision of several labels an image, in percent, as scikit-learn's ``average_precision_score``.

    - ``mAP`` (``average='macro'``): the mean over the classes that have an image. Those without have no average
      precision; they are named in a warning, and do not count as 0 (as they do in mmpretrain's metric).
    - ``mAP_micro`` (``average='micro'``): of all scores of all classes together.
    - ``AP_classwise`` (``average=None``): a list, NaN for a class without images.

    Equal scores are one threshold, so that their order does not matter. A score that is NaN counts as 0, and an entry
    -1 of a ``gt_score`` (VOC's difficult objects) is left out.

    Args:
        average (str, optional): ``'macro'``, ``'micro'`` or None. Defaults to ``'macro'``.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'multi-label'``.

    Raises:
        MissingFieldError: If a sample has no label.

    Example:
        >>> metric = AveragePrecision()
        >>> metric.process(None, [dict(pred_score=torch.tensor([score, 0.1]), gt_label=torch.tensor(labels))
        ...                       for score, labels in [(0.9, [0]), (0.8, [1]), (0.3, [0])]])
        >>> round(metric.evaluate(size=3)['multi-label/mAP'], 2)  # the mean of 5/6, and of 1/3 where all are equal
        58.33
    """

    directions: ClassVar = {'mAP': 'greater', 'mAP_micro': 'greater', 'AP_classwise': None}
    units: ClassVar = {'*': '%'}

    def __init__(
        self, average: Optional[str] = 'macro', collect_device: str = 'cpu', prefix: Optional[str] = None
    ) -> None:
        check_choice('AveragePrecision', 'average', average, ('macro', 'micro', None))
        super().__init__(average, collect_device, prefix)

    def compute_metrics(self, results: list[dict]) -> dict[str, Any]:
        """Compute the results. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        scores = torch.stack([result['pred_score'] for result in results]).float().nan_to_num(0.0)
        targets = torch.stack([result['gt_score'] for result in results])
        positives = (targets == 1).sum(0)
        if not positives.any():
            return without_result(self, 'No image has a label of a class of the model.')
        if self.average == 'micro':
            return {'mAP_micro': 100 * _average_precision(scores.flatten(), targets.flatten())}
        self.warn_of_absent(positives, 'are left out')
        each = [
            100 * _average_precision(*pair) if count else float('nan')
            for *pair, count in zip(scores.T, targets.T, positives.tolist(), strict=True)
        ]
        if self.average is None:
            return {'AP_classwise': each}
        return {'mAP': torch.tensor(each, dtype=torch.float64).nanmean().item()}


def _average_precision(scores: Tensor, targets: Tensor) -> float:
    negatives = scores[(targets > -1) & (targets != 1)]
    return aupr(negatives, scores[targets == 1]).item() if len(negatives) else 1.0
