"""Measure the effect of calibration, applied or possible, on a report's images."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional.calibration import apply_scaling, fit_scaling, match_sets
from hybridcls.functional.metrics import equal_width_gaps, share_interval
from hybridcls.functional.metrics.intervals import bootstrap_interval, weighted_mean
from hybridcls.structures import Calibration

from ..image_sketch import share_in_sketch
from .evaluated_images import EvaluatedImages
from .numbers import reliability

__all__ = ['CalibrationEffect', 'calibration_effect', 'guarantee_holds']

_FOLDS, _LEAST, _BINS, _RISK, _CONFIDENCE = 5, 20, 15, 0.05, 0.95


class CalibrationEffect(NamedTuple):
    """Metrics of probabilities before and after calibration.

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
    known: EvaluatedImages, calibration: Optional[Calibration] = None, seed: int = 0
) -> CalibrationEffect:
    """Compare the probabilities before and after calibration.

    Args:
        known (EvaluatedImages): With ``uncalibrated`` scores if there is a calibration.
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
            after, why = None, 'This calibration sets thresholds and does not change the probabilities.'
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
    rows = _rows(before, after, risk)
    return CalibrationEffect(
        kind, rows, reliability(before), None if after is None else reliability(after), temperatures, overlap, why,
        threshold, sets, risk,
    )  # fmt: skip


def _by_other_images(known: EvaluatedImages, seed: int) -> tuple[np.ndarray, list[float]]:
    """Calibrate each image by a temperature that was fitted on the other folds."""
    if len(known) < _LEAST:
        raise ValueError(f'at least {_LEAST} images are needed, got {len(known)}.')
    scores, labels = torch.from_numpy(known.scores), torch.from_numpy(known.labels)
    folds = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)) % _FOLDS
    calibrated, temperatures = torch.empty_like(scores), []
    for fold in range(_FOLDS):
        inside = folds == fold
        scaling = fit_scaling('temperature', scores[~inside], labels[~inside])
        calibrated[inside] = apply_scaling(scaling, scores[inside])
        temperatures.append(scaling['temperature'])
    return calibrated.numpy(), [*temperatures, fit_scaling('temperature', scores, labels)['temperature']]


def _rows(before: EvaluatedImages, after: Optional[EvaluatedImages], risk: float) -> list[dict[str, Any]]:
    """Return the metrics before and after and their difference, with intervals from the same resamples."""
    both = [_Numbers(images, risk) for images in (before, after) if images is not None]

    def statistic(weights: Tensor) -> Tensor:
        found = [one.of(weights) for one in both]
        return torch.stack([*found, found[-1] - found[0]], 1)

    values = statistic(torch.ones(1, len(before), dtype=torch.float64))[0].tolist()
    ends = bootstrap_interval(statistic, len(before), confidence=_CONFIDENCE)
    lows, highs = ends.low.tolist(), ends.high.tolist()
    coverage = f'selective/coverage_risk{100 * risk:g}_least_confidence'
    names = (('calibration/ece', 'ECE', '%', 'lower'), ('calibration/nll', 'NLL', 'nats', 'lower'),
             ('calibration/brier', 'Brier score', '', 'lower'),
             (coverage, f'images answered at an error rate of at most {100 * risk:g} %', '%', 'higher'))  # fmt: skip
    rows = []
    for column, (key, name, unit, better) in enumerate(names):
        cells = [
            dict(value=values[k][column], low=_finite(lows[k][column]), high=_finite(highs[k][column]))
            for k in range(len(values))
        ]
        parts = dict(before=cells[0], after=None, difference=None)
        if len(both) == 2:
            parts.update(after=cells[1], difference=cells[2])
        rows.append(dict(key=key, name=name, unit=unit, better=better, **parts))
    return rows


class _Numbers:
    """ECE, NLL, Brier score and coverage of resamples, as CalibrationMetric and SelectiveMetric define them."""

    def __init__(self, images: EvaluatedImages, risk: float) -> None:
        scores, labels = torch.from_numpy(images.scores).double(), torch.from_numpy(images.labels)
        self.confidence, predicted = scores.max(1)
        self.right = (predicted == labels).double()
        target = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
        tiny = torch.finfo(torch.float32)
        nll = -target.clamp_min(tiny.tiny * tiny.eps).log()
        self.means = torch.stack([nll, scores.square().sum(1) - 2 * target + 1], 1)
        uncertainty = (1 - self.confidence).sort()
        self.order, self.risk = uncertainty.indices, risk
        self.ends = uncertainty.values.unique_consecutive(return_counts=True)[1].cumsum(0) - 1  # of equal ones

    def of(self, weights: Tensor) -> Tensor:
        """Return the four metrics of each resample, (R, 4)."""
        gaps, shares = equal_width_gaps(self.confidence, self.right, _BINS, weights)
        drawn = weights[:, self.order]
        answered = drawn.cumsum(1)[:, self.ends]
        wrong = (drawn * (1 - self.right[self.order])).cumsum(1)[:, self.ends]
        covered = answered.masked_fill(wrong > self.risk * answered + 1e-9, 0).amax(1) / weights.sum(1)
        ece = (gaps * shares).sum(1)
        return torch.cat([100 * ece[:, None], weighted_mean(weights, self.means), 100 * covered[:, None]], 1)


def guarantee_holds(share: Mapping[str, float], most: float) -> str:
    """Say whether a share with its interval is within a guaranteed one.

    Example:
        >>> guarantee_holds(dict(value=0.2, low=0.1, high=0.3), most=0.05)
        'more than guaranteed'
    """
    if share['low'] > most:
        return 'more than guaranteed'
    return 'within the guarantee' if share['high'] <= most else 'no clear difference from the guarantee'


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None


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
