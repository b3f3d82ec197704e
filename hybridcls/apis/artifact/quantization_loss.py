"""Measure the loss by quantization on images not used to quantize: accuracy, calibration error, coverage."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.functional.calibration import apply_scaling
from hybridcls.functional.metrics.intervals import bootstrap_interval, share_interval, weighted_mean
from hybridcls.functional.metrics.nearest_neighbours import nearest_neighbours
from hybridcls.structures import Calibration

__all__ = ['CONFIDENCE', 'Comparison', 'Measured', 'compare', 'too_much_lost']

CONFIDENCE = 0.95
_BINS = 15
_RISK = 0.05  # of the coverage where no threshold is calibrated

Outputs = Mapping[str, Tensor]
Statistic = Callable[[Outputs, Tensor], Tensor]  # of outputs and weights (R, N): (R,), a share


class Measured(NamedTuple):
    """A share in percent with its 95 % interval; NaN where there are too few images for one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format it in percent."""
        return f'{self.value:.2f} % [{self.low:.2f}, {self.high:.2f}]'

    def as_metric(self, images: int) -> dict[str, Any]:
        """Return the entry of a sidecar's ``metrics``."""
        numbers = {name: None if value != value else value for name, value in self._asdict().items()}
        return numbers | dict(confidence=CONFIDENCE, images=images, unit='%')


class Comparison(NamedTuple):
    """One share before and after the quantization.

    Args:
        name (str): Of the metric, as in the sidecar.
        meaning (str): What is counted, in words.
        before (Measured), after (Measured): Of the same images.
        lost (Measured): What was lost, in points: from the same resamples of images, so that its interval is that of
            the difference. Negative: something was won.
        images (int): How many.
        counts (str): What of ``lost`` may not be more than asked: ``'value'``; ``'low'``, the lower end (of what is
            unsteady with few images, and fitted again); or ``''``: it is only shown.
    """

    name: str
    meaning: str
    before: Measured
    after: Measured
    lost: Measured
    images: int
    counts: str

    def __str__(self) -> str:
        """Format the comparison in a line."""
        line = f'{self.meaning}: {self.before} -> {self.after}'
        if not self.counts:
            return line
        has_ends = self.lost.low == self.lost.low
        ends = f' [{self.lost.low:.2f}, {self.lost.high:.2f}]' if has_ends else ''
        return f'{line}; lost {self.lost.value:.2f} points{ends}'


def compare(
    before: Outputs,
    after: Outputs,
    labels: Tensor,
    calibration: Optional[Calibration] = None,
    thresholds: Optional[Tensor] = None,
) -> list[Comparison]:
    """Compare the outputs of a model before and after its quantization.

    Args:
        before, after (Mapping): Outputs by name, of the same N images: ``probabilities`` (N, C), or the ``embedding``.
        labels (Tensor): int64 (N,), -1 for a class that the model does not have; of several labels an image bool
            (N, C).
        calibration (Calibration, optional): Of the model before; it is done to both. Defaults to None.
        thresholds (Tensor, optional): (C,), of several labels an image.

    Returns:
        list[Comparison]: Accuracy, expected calibration error and coverage; of several labels an image F1 of all
        decisions (micro average) and the calibration error of all probabilities; of embeddings alone whether the
        nearest other image is of the same class (recall@1).
    """
    if labels.dim() == 2:
        return _compare_labels(before, after, labels, thresholds)
    if 'probabilities' not in before:
        hits = [_recalled(of['embedding'], labels) for of in (before, after)]
        return [_compared('recall@1', 'nearest image of the same class', hits, _share, _share_interval, 'value')]
    scores = [of['probabilities'].double() for of in (before, after)]
    if calibration is not None:
        scores = [apply_scaling(calibration.scaling, of) for of in scores]
    best = [of.max(1) for of in scores]
    known = labels >= 0
    right = [of.indices == labels for of in best]
    found = [
        _compared('accuracy/top1', 'accuracy', [of[known] for of in right], _share, _share_interval, 'value'),
        _compared_errors('ECE', [of.values[known] for of in best], [of[known] for of in right]),
    ]
    if calibration is not None and calibration.risk is not None:
        threshold = calibration.risk['threshold']
        answered = [of.values.double() >= threshold for of in best]
        meaning = f'coverage at the threshold {threshold:.4f}'
        found.append(_compared('answered', meaning, answered, _share, _share_interval, 'low'))
        wrong = [1 - is_right[rows].double() for rows, is_right in zip(answered, right, strict=True)]
        first, second = (
            _percent(float(of.mean()) if len(of) else 0.0, share_interval(int(of.sum()), len(of))) for of in wrong
        )
        lost = Measured(second.value - first.value, torch.nan, torch.nan)
        found.append(Comparison('error_of_answered', 'error of the answered', first, second, lost, len(labels), ''))
    else:
        pairs = [torch.stack([of.values, is_right.double()], 1) for of, is_right in zip(best, right, strict=True)]
        meaning = f'coverage at {100 * _RISK:g} % error (best threshold of these images)'
        found.append(_compared('coverage', meaning, pairs, _coverage, _bootstrapped, ''))
    return found


def too_much_lost(comparisons: list[Comparison], most: float) -> list[Comparison]:
    """Return the comparisons that lost more than so many points."""
    return [one for one in comparisons if one.counts and getattr(one.lost, one.counts) > most]


def _compare_labels(before: Outputs, after: Outputs, labels: Tensor, thresholds: Optional[Tensor]) -> list[Comparison]:
    scores = [of['probabilities'].double() for of in (before, after)]
    limit = torch.full((labels.shape[1],), 0.5) if thresholds is None else thresholds
    chosen = [of.float() >= limit.float() for of in scores]
    counts = [torch.stack([(of & labels).sum(1), of.sum(1) + labels.sum(1)], 1).double() for of in chosen]
    return [
        _compared('multi-label/f1_micro', 'F1 (micro)', counts, _f1, _bootstrapped, 'value'),
        _compared_errors('ECE of all probabilities', scores, [labels, labels]),
    ]


def _compared(
    name: str,
    meaning: str,
    data: list[Tensor],
    statistic: Callable[[Tensor, Tensor], Tensor],
    interval: Callable[[Tensor, Callable], tuple[float, float]],
    counts: str,
    sign: int = 1,
) -> Comparison:
    """Measure both models, and their difference on the same resamples."""
    images = len(data[0])
    once = torch.ones(1, images, dtype=torch.float64)
    values = [float(statistic(once, of)) for of in data]
    ends = [interval(of, statistic) for of in data]
    low, high = bootstrap_interval(
        lambda weights: sign * (statistic(weights, data[0]) - statistic(weights, data[1])), images, None, CONFIDENCE
    )
    lost = _percent(sign * (values[0] - values[1]), (float(low), float(high)))
    before, after = (_percent(value, of) for value, of in zip(values, ends, strict=True))
    return Comparison(name, meaning, before, after, lost, images, counts)


def _percent(value: float, ends: tuple[float, float]) -> Measured:
    return Measured(100 * value, 100 * ends[0], 100 * ends[1])


def _share(weights: Tensor, hits: Tensor) -> Tensor:
    return weighted_mean(weights, hits)


def _share_interval(hits: Tensor, statistic: Callable) -> tuple[float, float]:
    return share_interval(int(hits.sum()), len(hits), CONFIDENCE)


def _bootstrapped(data: Tensor, statistic: Callable) -> tuple[float, float]:
    low, high = bootstrap_interval(lambda weights: statistic(weights, data), len(data), None, CONFIDENCE)
    return float(low), float(high)


def _compared_errors(meaning: str, claimed: list[Tensor], right: list[Tensor]) -> Comparison:
    """Compare the expected calibration errors of probabilities, (N,) or (N, C), in 15 bins of equal width."""
    data = [_residuals(*each) for each in zip(claimed, right, strict=True)]
    return _compared('calibration/ece', meaning, data, _calibration_error, _bootstrapped, 'low', sign=-1)


def _residuals(claimed: Tensor, right: Tensor) -> Tensor:
    """Return the contribution of each image to each bin of :func:`equal_width_gaps`, (N, bins + 1)."""
    claimed, right = (of.double().reshape(len(of), -1) for of in (claimed, right))
    place = torch.bucketize(claimed, torch.linspace(0, 1, _BINS + 1, dtype=torch.float64), right=True) - 1
    empty = claimed.new_zeros(len(claimed), _BINS + 1)
    return empty.scatter_add(1, place.clamp(0, _BINS), (right - claimed) / claimed.shape[1])


def _calibration_error(weights: Tensor, residuals: Tensor) -> Tensor:
    return weighted_mean(weights, residuals).abs().sum(1)


def _coverage(weights: Tensor, pairs: Tensor) -> Tensor:
    """Return ``coverage_at_risk`` of each resample; pairs are confidence and success, (N, 2)."""
    confidence, order = pairs[:, 0].sort(descending=True)
    drawn = weights[:, order]
    answered, wrong = drawn.cumsum(1), (drawn * (1 - pairs[order, 1])).cumsum(1)
    is_end = torch.cat([confidence[1:] < confidence[:-1], torch.ones(1, dtype=torch.bool)])  # equal ones go together
    good = (wrong <= _RISK * answered + 1e-9) & is_end
    return (answered * good).amax(1) / answered[:, -1]


def _f1(weights: Tensor, counts: Tensor) -> Tensor:
    both, either = (weights @ counts).unbind(1)
    return torch.where(either > 0, 2 * both / either, 0.0)


def _recalled(embeddings: Tensor, labels: Tensor) -> Tensor:
    return labels[nearest_neighbours(embeddings, None, 1)[1][:, 0]] == labels
