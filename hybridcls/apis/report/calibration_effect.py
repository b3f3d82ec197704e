"""What a calibration does to the probabilities of a report's images, or would do."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.evaluation import CalibrationMetric, SelectiveMetric
from hybridcls.functional.calibration import apply_scaling, fit_scaling, match_sets
from hybridcls.functional.metrics import equal_width_gaps, share_interval
from hybridcls.functional.metrics.intervals import bootstrap_interval, weighted_mean
from hybridcls.structures import Calibration

from ..image_sketch import share_in_sketch
from .evaluated_images import EvaluatedImages
from .numbers import of_metric, reliability

__all__ = ['CalibrationEffect', 'calibration_effect']

_FOLDS, _LEAST, _BINS, _RISK, _CONFIDENCE = 5, 20, 15, 0.05, 0.95


class CalibrationEffect(NamedTuple):
    """Probabilities before and after.

    Args:
        kind (str): ``'applied'``: a calibration beside the checkpoint; ``'cross-validated'``: what a temperature would
            give, each image by a fit on others; ``'none'``: neither.
        rows (list[dict]): Of each number ``key``, ``name``, ``unit``, ``better``, and ``before``, ``after`` and
            ``difference``, each ``value``, ``low``, ``high``.
        before (dict), after (dict | None): Of reliability diagrams, as of :func:`reliability`.
        temperatures (list[float]): Of the folds, then of all images.
        overlap (float, optional): What share of the images the calibration was fitted on; None: not known.
        why (str): Why there is no ``after``; ``''`` if there is one.
        threshold (dict, optional): Of a calibration with a threshold: ``risk`` as stated, ``answered`` and ``errors``,
            shares with ``low`` and ``high``.
        sets (dict, optional): Of one with sets: ``alpha`` as stated, ``missed`` with ``low`` and ``high``, and the mean
            ``size``.
        risk (float): The error that coverages are given for.
    """

    kind: str
    rows: list[dict[str, Any]]
    before: dict[str, list[float]]
    after: Optional[dict[str, list[float]]]
    temperatures: list[float]
    overlap: Optional[float]
    why: str
    threshold: Optional[dict[str, Any]]
    sets: Optional[dict[str, Any]]
    risk: float


def calibration_effect(
    known: EvaluatedImages, classes: Sequence[str], calibration: Optional[Calibration] = None, seed: int = 0
) -> CalibrationEffect:
    """Compare before and after.

    Args:
        known (EvaluatedImages): With ``uncalibrated`` scores if there is a calibration.
        classes (Sequence[str]): Of the model.
        calibration (Calibration, optional): What was applied. Defaults to None: a temperature is cross-validated.
        seed (int): Of the folds. Defaults to 0.
    """
    temperatures: list[float] = []
    why, overlap, threshold, sets, risk = '', None, None, None, _RISK
    if calibration is not None and known.uncalibrated is not None:
        kind, before = 'applied', replace(known, scores=known.uncalibrated)
        after: Optional[EvaluatedImages] = known
        overlap = share_in_sketch(calibration.data, known.items)
        if calibration.scaling['kind'] == 'none':
            after, why = None, 'This calibration has thresholds alone, and leaves probabilities as they are.'
        if calibration.risk is not None:
            risk, threshold = calibration.risk['risk'], _threshold(known, calibration.risk)
        if calibration.sets is not None:
            sets = _sets(known, calibration.sets)
    else:
        kind, before, after = 'cross-validated', known, None
        try:
            scores, temperatures = _by_other_images(known, seed)
            after = replace(known, scores=scores)
        except (ValueError, IndexError) as error:
            kind, why = 'none', f'A temperature cannot be fitted to these images: {error}'
    rows = _rows(before, after, classes, risk)
    return CalibrationEffect(
        kind, rows, reliability(before), None if after is None else reliability(after), temperatures, overlap, why,
        threshold, sets, risk,
    )  # fmt: skip


def _by_other_images(known: EvaluatedImages, seed: int) -> tuple[np.ndarray, list[float]]:
    """Calibrate each image by a temperature that was fitted on images of other folds."""
    if len(known) < _LEAST:
        raise ValueError(f'there are {len(known)} images, and it takes {_LEAST}.')
    scores, labels = torch.from_numpy(known.scores), torch.from_numpy(known.labels)
    folds = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)) % _FOLDS
    calibrated, temperatures = torch.empty_like(scores), []
    for fold in range(_FOLDS):
        inside = folds == fold
        scaling = fit_scaling('temperature', scores[~inside], labels[~inside])
        calibrated[inside] = apply_scaling(scaling, scores[inside])
        temperatures.append(scaling['temperature'])
    return calibrated.numpy(), [*temperatures, fit_scaling('temperature', scores, labels)['temperature']]


def _rows(
    before: EvaluatedImages, after: Optional[EvaluatedImages], classes: Sequence[str], risk: float
) -> list[dict[str, Any]]:
    coverage = f'selective/coverage_risk{100 * risk:g}_least_confidence'
    found = []
    for images in (before, after):
        numbers = {}
        if images is not None:
            numbers = of_metric(CalibrationMetric(bins=_BINS, confidence=_CONFIDENCE), images, classes)
            selective = SelectiveMetric(coverages=(), risks=(risk,), confidence=_CONFIDENCE)
            numbers |= of_metric(selective, images, classes)
        found.append(numbers)
    differences = {} if after is None else _differences(before, after)
    names = (('calibration/ece', 'ECE', '%', 'lower'), ('calibration/nll', 'NLL', 'nats', 'lower'),
             ('calibration/brier', 'Brier score', '', 'lower'),
             (coverage, f'images answered at an error of at most {100 * risk:g} % on them', '%', 'higher'))  # fmt: skip
    return [
        dict(key=key, name=name, unit=unit, better=better, before=_ends(found[0], key), after=_ends(found[1], key),
             difference=differences.get(key))
        for key, name, unit, better in names
    ]  # fmt: skip


def _ends(numbers: dict[str, Any], key: str) -> Optional[dict[str, Any]]:
    if numbers.get(key) is None:
        return None
    ends = {end: numbers.get(f'{key}_{end}') for end in ('low', 'high')}
    return dict(value=numbers[key], **{end: _finite(value) for end, value in ends.items()})


def _finite(value: Any) -> Optional[float]:
    return value if value is not None and math.isfinite(value) else None


def _differences(before: EvaluatedImages, after: EvaluatedImages) -> dict[str, dict[str, Any]]:
    """After minus before on the same images, with the intervals of paired resamples."""
    labels = torch.from_numpy(before.labels)
    of_images = [_of_images(torch.from_numpy(images.scores).double(), labels) for images in (before, after)]
    means = torch.stack([new - old for old, new in zip(*(one[2:] for one in of_images), strict=True)], 1)

    def statistic(weights: Tensor) -> Tensor:
        eces = []
        for confidence, right, *_ in of_images:
            gaps, shares = equal_width_gaps(confidence, right, _BINS, weights)
            eces.append(100 * (gaps * shares).sum(1, keepdim=True))
        return torch.cat([eces[1] - eces[0], weighted_mean(weights, means)], 1)

    value = statistic(torch.ones(1, len(labels), dtype=torch.float64))[0]
    ends = bootstrap_interval(statistic, len(labels), confidence=_CONFIDENCE)
    return {
        f'calibration/{key}': dict(value=float(value[k]), low=_finite(float(ends.low[k])),
                                   high=_finite(float(ends.high[k])))
        for k, key in enumerate(('ece', 'nll', 'brier'))
    }  # fmt: skip


def _of_images(scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Return of each image the confidence, whether it is right, -log of its class's probability, and Brier's score."""
    confidence, predicted = scores.max(1)
    target = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    brier = scores.square().sum(1) - 2 * target + 1
    tiny = torch.finfo(torch.float32)
    return confidence, (predicted == labels).double(), -target.clamp_min(tiny.tiny * tiny.eps).log(), brier


def _share(count: int, of: int) -> dict[str, float]:
    ends = share_interval(count, of, _CONFIDENCE)
    return dict(value=count / of if of else math.nan, low=ends.low, high=ends.high)


def _threshold(known: EvaluatedImages, risk: dict[str, Any]) -> dict[str, Any]:
    answered = known.confidence.astype(np.float64) >= risk['threshold']
    wrong = answered & (known.predicted != known.labels)
    count = int(answered.sum())
    return dict(risk=risk['risk'], confidence=risk['confidence'], answered=_share(count, len(known)),
                errors=_share(int(wrong.sum()), count), images=count)  # fmt: skip


def _sets(known: EvaluatedImages, sets: dict[str, Any]) -> dict[str, Any]:
    found = match_sets(torch.from_numpy(known.scores), sets['threshold'], at_least=1)
    missed = sum(int(label) not in members.tolist() for label, members in zip(known.labels, found, strict=True))
    return dict(alpha=sets['alpha'], missed=_share(missed, len(known)), size=sum(map(len, found)) / len(found))
