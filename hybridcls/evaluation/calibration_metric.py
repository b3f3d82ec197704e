"""Measure how well predicted probabilities match the observed frequencies."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_choice, check_number, verb_of
from hybridcls.functional.metrics import (
    classwise_calibration_error,
    equal_mass_calibration_error,
    equal_width_gaps,
    smooth_calibration_error,
)
from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, label_of
from .result_bounds import ResultBounds, each_resample
from .result_names import without_result

__all__ = ['CalibrationMetric']

_NAN = ('NaN',)  # what is kept of an image with such a score


@METRICS.register_module()
class CalibrationMetric(BaseMetric):
    """Calibration error, Brier score and negative log-likelihood of ``pred_score``; lower is better.

    - ``ece``: expected calibration error, percent: images are binned by their largest probability into ``bins`` of
      equal width (as torchmetrics' ``binary_calibration_error`` of it against right or wrong), and the differences of
      accuracy and mean confidence are averaged, weighted by the number of images.
    - ``mce``: the largest of these differences, percent.
    - ``ece_equal_mass``, with ``errors=[..., 'equal_mass']``: the same with equally many images in each bin, percent.
    - ``ece_smooth``, with ``errors=[..., 'smooth']``: smECE, which needs no bins, percent
      (:func:`hybridcls.functional.metrics.smooth_calibration_error`).
    - ``ece_classwise``, with ``errors=[..., 'classwise']``: the mean error of the probabilities of each class, percent
      (:func:`hybridcls.functional.metrics.classwise_calibration_error`); all scores of each image are kept for it.
    - ``brier``: mean squared distance of all probabilities from the one-hot label, summed over classes: from 0 to 2.
    - ``nll``: mean -log of the target class's probability, nats. A probability of 0 counts as the smallest number above
      0 of the scores' dtype, which keeps the mean finite: 103.28 nats in float32, 744.44 in float64. Scores cannot
      resolve more: in float32 a probability below 1.2e-38 (87.34 nats) loses digits, and one below 7e-46 is 0, where
      the logits would still differ. Scores in float64 are used unchanged.

    Images of unknown categories (label -1, or one that the model has no class for) are left out. With a score that is
    NaN there is no result, but a warning. Four numbers are kept of an image, for any number of classes.

    Args:
        bins (int): Number of bins. Defaults to 15.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'calibration'``.
        errors (Sequence[str]): Which calibration errors: ``'equal_width'`` (``ece`` and ``mce``), ``'equal_mass'``,
            ``'smooth'``, ``'classwise'``. Defaults to ``('equal_width', )``.
        confidence (float, optional): Add the ends of bootstrap intervals of all but ``mce`` (``nll_low``,
            ``nll_high``) of this confidence. A calibration error of few images is too high even for a
            calibrated model; its interval shows the spread, not that. Defaults to None.
        group (str, optional): Field of the samples whose images belong together; the bootstrap draws groups. Defaults
            to None.

    Raises:
        ValueError: If a key is out of range, or scores are not probabilities.
        MissingFieldError: If samples lack a score, a label or a group.

    Example:
        >>> metric = CalibrationMetric()
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.75, 0.25]), gt_label=torch.tensor([label]))
        ...                       for label in (0, 0, 0, 1)])
        >>> result = metric.evaluate(size=4)
        >>> {name: round(value, 4) for name, value in result.items()}  # right in 3 of 4 cases
        {'calibration/ece': 0.0, 'calibration/mce': 0.0, 'calibration/brier': 0.375, 'calibration/nll': 0.5623}
    """

    default_prefix = 'calibration'
    units = {'ece*': '%', 'mce': '%', 'nll*': 'nats'}

    def __init__(
        self,
        bins: int = 15,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        errors: Sequence[str] = ('equal_width',),
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_number('CalibrationMetric', 'bins', bins, 1, integer=True)
        self.bins = bins
        self.errors = (errors,) if isinstance(errors, str) else tuple(errors)
        for error in self.errors:
            check_choice('CalibrationMetric', 'errors', error, ('equal_width', 'equal_mass', 'smooth', 'classwise'))
        self.bounds = ResultBounds('CalibrationMetric', confidence, group)
        kinds = ['ece', 'mce'] if 'equal_width' in self.errors else []
        kinds += [f'ece_{error}' for error in self.errors if error != 'equal_width']
        bounded = {kind: 'less' for kind in (*kinds, 'brier', 'nll') if kind != 'mce'}
        self.directions = {**dict.fromkeys([*kinds, 'brier', 'nll'], 'less'), **self.bounds.directions(bounded)}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep confidence, success, Brier score and -log p of each image of a known class."""
        for sample in data_samples:
            label = label_of('CalibrationMetric', sample)
            if not label.known:
                self.results.append(())  # mmengine would drop None, and count an image that pads a batch
                continue
            given = sample['pred_score'].detach()
            precision = torch.finfo(given.dtype if given.is_floating_point() else torch.float64)
            least = precision.tiny * precision.eps  # a subnormal number
            scores = given.to('cpu', torch.float64, copy=True)
            if scores.isnan().any():
                self.results.append(_NAN)
                continue
            rounding = max(1e-3, precision.eps)  # bfloat16 has 3 digits
            if not (scores.isfinite().all() and abs(scores.sum() - 1) < rounding and (scores >= 0).all()):
                raise ValueError(
                    f'CalibrationMetric: expected probabilities in pred_score, got a sum of {scores.sum():g} and a '
                    f'smallest entry of {scores.min():g}.'
                )
            confidence, predicted = scores.max(0)
            target = float(scores[label.value])
            scores[label.value] -= 1
            brier = float(scores.square().sum())
            self.results.append((
                min(float(confidence), 1.0), int(predicted) == label.value, brier, -math.log(max(target, least)),
                self.bounds.group_of(sample), given.float().cpu().numpy() if 'classwise' in self.errors else None,
                label.value,
            ))  # fmt: skip

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Average over the images. Runs in the main process, with each image once."""
        rows = [row for row in results if row]
        if not rows:
            return without_result(self, NO_KNOWN_IMAGE if results else NO_IMAGE)
        broken = sum(row == _NAN for row in rows)
        if broken:
            has = verb_of(broken, 'has', 'have')
            return without_result(self, f'{broken} of {len(rows)} images {has} a score that is NaN: no probability.')
        confidence, right, brier, nll = torch.tensor([row[:4] for row in rows], dtype=torch.float64).T.contiguous()
        groups = [row[4] for row in rows]
        scores = {}
        if 'equal_width' in self.errors:
            gaps, shares = equal_width_gaps(confidence, right, self.bins)
            ece = dict(ece=100 * (gaps * shares).sum().item())
            scores.update(self.bounds.of_resamples(self, ece, partial(self._of_resamples, confidence, right), groups))
            scores['mce'] = 100 * gaps.max().item()
        if 'equal_mass' in self.errors:
            ece = dict(ece_equal_mass=100 * equal_mass_calibration_error(confidence, right, self.bins).item())
            again = each_resample(
                lambda drawn: equal_mass_calibration_error(confidence[drawn], right[drawn], self.bins)
            )
            scores.update(self.bounds.of_resamples(self, ece, _percent(again), groups))
        if 'smooth' in self.errors:
            ece = dict(ece_smooth=100 * smooth_calibration_error(confidence, right).item())
            again = partial(smooth_calibration_error, confidence, right)
            scores.update(self.bounds.of_resamples(self, ece, _percent(again), groups))
        if 'classwise' in self.errors:
            all_scores = torch.from_numpy(np.stack([row[5] for row in rows]))
            labels = torch.tensor([row[6] for row in rows])
            again = partial(classwise_calibration_error, all_scores, labels, self.bins)
            ece = dict(ece_classwise=100 * again().item())
            scores.update(self.bounds.of_resamples(self, ece, _percent(again), groups))
        scores.update(self.bounds.of_images(self, dict(brier=brier, nll=nll), groups, scale=1.0))
        return scores

    def _of_resamples(self, confidence: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        gaps, shares = equal_width_gaps(confidence, right, self.bins, weights)
        return 100 * (gaps * shares).sum(1, keepdim=True)


def _percent(error: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda weights: 100 * error(weights).unsqueeze(1)
