"""Measure how well predicted probabilities match the observed frequencies."""

import math
from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmengine.evaluator import BaseMetric
from torchmetrics.functional.classification import binary_calibration_error

from hybridcls.checks import check_number
from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, label_of
from .result_names import without_result

__all__ = ['CalibrationMetric']


@METRICS.register_module()
class CalibrationMetric(BaseMetric):
    """Calibration error, Brier score and negative log-likelihood of ``pred_score``; lower is better.

    - ``ece``: expected calibration error, percent: images are binned by their largest probability into ``bins`` of
      equal width (torchmetrics' ``binary_calibration_error`` of it against right or wrong), and the differences of
      accuracy and mean confidence are averaged, weighted by the number of images.
    - ``mce``: the largest of these differences, percent.
    - ``brier``: mean squared distance of all probabilities from the one-hot label, summed over classes: from 0 to 2.
    - ``nll``: mean -log of the target class's probability, nats. A probability of 0 counts as the smallest number above
      0 of the scores' dtype, which keeps the mean finite: 103.28 nats in float32, 744.44 in float64. Scores cannot
      resolve more: in float32 a probability below 1.2e-38 (87.34 nats) loses digits, and one below 7e-46 is 0, where
      the logits would still differ. Scores in float64 are used unchanged.

    Images of unknown categories (label -1, or one that the model has no class for) are left out. Four numbers
    are kept of an image, for any number of classes.

    Args:
        bins (int): Number of bins. Defaults to 15.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'calibration'``.

    Raises:
        ValueError: If ``bins`` is out of range, or scores are not probabilities.
        MissingFieldError: If samples lack a score or a label.

    Example:
        >>> metric = CalibrationMetric()
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.75, 0.25]), gt_label=torch.tensor([label]))
        ...                       for label in (0, 0, 0, 1)])
        >>> result = metric.evaluate(size=4)
        >>> {name: round(value, 4) for name, value in result.items()}  # right in 3 of 4 cases
        {'calibration/ece': 0.0, 'calibration/mce': 0.0, 'calibration/brier': 0.375, 'calibration/nll': 0.5623}
    """

    default_prefix = 'calibration'
    directions = {'ece': 'less', 'mce': 'less', 'brier': 'less', 'nll': 'less'}
    units = {'ece': '%', 'mce': '%', 'nll': 'nats'}

    def __init__(self, bins: int = 15, collect_device: str = 'cpu', prefix: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_number('CalibrationMetric', 'bins', bins, 1, integer=True)
        self.bins = bins

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep confidence, success, Brier score and -log p of each image; nothing of an unknown one."""
        for sample in data_samples:
            label = label_of('CalibrationMetric', sample)
            if not label.known:
                self.results.append(None)
                continue
            given = sample['pred_score'].detach()
            precision = torch.finfo(given.dtype if given.is_floating_point() else torch.float64)
            least = precision.tiny * precision.eps  # a subnormal number
            scores = given.to('cpu', torch.float64, copy=True)
            if not (scores.isfinite().all() and abs(scores.sum() - 1) < 1e-3 and (scores >= 0).all()):
                raise ValueError(
                    f'CalibrationMetric: expected probabilities in pred_score, got a sum of {scores.sum():g} and a '
                    f'smallest entry of {scores.min():g}.'
                )
            confidence, predicted = scores.max(0)
            target = float(scores[label.value])
            scores[label.value] -= 1
            brier = float(scores.square().sum())
            self.results.append(
                (min(float(confidence), 1.0), int(predicted) == label.value, brier, -math.log(max(target, least)))
            )

    def compute_metrics(self, results: list[Optional[tuple[float, bool, float, float]]]) -> dict[str, float]:
        """Average over the images. Runs in the main process, with each image once."""
        rows = [row for row in results if row is not None]
        if not rows:
            return without_result(self, NO_KNOWN_IMAGE if results else NO_IMAGE)
        confidence, right, brier, nll = torch.tensor(rows, dtype=torch.float64).T.contiguous()
        return dict(
            ece=100 * binary_calibration_error(confidence, right.int(), n_bins=self.bins, norm='l1').item(),
            mce=100 * binary_calibration_error(confidence, right.int(), n_bins=self.bins, norm='max').item(),
            brier=brier.mean().item(),
            nll=nll.mean().item(),
        )
