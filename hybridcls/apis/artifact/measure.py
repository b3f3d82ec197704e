"""Metrics of an exported model with intervals, measured on held-out images or read from its checkpoint."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.checks import counted
from hybridcls.evaluation import Accuracy, CalibrationMetric
from hybridcls.functional.metrics.intervals import bootstrap_interval, share_interval

from .shipped.runtime import calibrated

__all__ = ['HEADLINES', 'artifact_metrics', 'measured', 'metric_sentence', 'recorded_metrics']

HEADLINES = ('accuracy/top1', 'calibration/ece', 'answered', 'error_of_answered', 'multi-label/f1')
"""The metrics that are said of an export."""

_ENDS = ('_low', '_high')


def artifact_metrics(
    sidecar: Mapping[str, Any],
    outputs: Mapping[str, np.ndarray],
    labels: Sequence[Optional[str]],
    confidence: float = 0.95,
) -> dict[str, dict[str, Any]]:
    """Evaluate the calibrated answers of an artifact on held-out images.

    Args:
        sidecar (Mapping): Of the artifact.
        outputs (Mapping): Of its graph, by name, for N images.
        labels (Sequence[str, optional]): The class (or folder) of each image, of several labels ``a|b``; None is not
            known: the image is left out.
        confidence (float): Of the intervals, in (0, 1). Defaults to 0.95.

    Returns:
        dict[str, dict]: By name ``value``, ``low``, ``high`` (None where there are too few images for an interval),
        ``confidence``, ``images`` and ``unit``: ``accuracy/top1``, ``calibration/ece``, ``mce``, ``brier`` and ``nll``;
        with a threshold for the risk also ``answered`` and ``error_of_answered``, in which images of unknown classes
        count as wrong; of several labels an image ``multi-label/f1``, the mean over the classes. Empty without classes
        or labels.
    """
    rows = [row for row, label in enumerate(labels) if label is not None]
    if not rows or 'probabilities' not in outputs:
        return {}
    number_of = {
        name: number for names in (sidecar['folders'] or [], sidecar['classes']) for number, name in enumerate(names)
    }
    scores = outputs['probabilities'][rows]
    if sidecar['multi_label']:
        true = np.zeros(scores.shape)
        for row, place in enumerate(rows):
            found = [number_of[name] for name in str(labels[place]).split('|') if name in number_of]
            true[row, found] = 1
        said = scores >= np.asarray(sidecar['class_thresholds'], np.float32)
        return _measured_labels(torch.from_numpy(said).double(), torch.from_numpy(true), confidence)
    calibration = sidecar['calibration'] or {}
    if calibration:
        scores = calibrated(scores, calibration['scaling'])
    numbers = torch.tensor([number_of.get(str(labels[place]), -1) for place in rows])
    if bool((numbers < 0).all()):
        return {}
    return measured(torch.from_numpy(scores), numbers, confidence, (calibration.get('risk') or {}).get('threshold'))


def measured(
    scores: Tensor, labels: Tensor, confidence: float = 0.95, threshold: Optional[float] = None
) -> dict[str, dict[str, Any]]:
    """Return accuracy and calibration of probabilities; see :func:`artifact_metrics`.

    Args:
        scores (Tensor): Float, (N, C).
        labels (Tensor): int64, (N,); -1 for images of no class of the model, which count for a threshold alone.
        confidence (float): Of the intervals, in (0, 1). Defaults to 0.95.
        threshold (float, optional): From which largest score on an image is answered.

    Example:
        >>> found = measured(torch.tensor([[0.75, 0.25]]).repeat(4, 1), torch.tensor([0, 0, 0, 1]))['accuracy/top1']
        >>> found['value'], round(found['low'], 1), round(found['high'], 1)
        (75.0, 19.4, 99.4)
    """
    known = labels >= 0
    samples = [
        dict(pred_score=score, gt_label=label.reshape(1))
        for score, label in zip(scores[known], labels[known], strict=True)
    ]
    found = {}
    for metric in (Accuracy(confidence=confidence), CalibrationMetric(confidence=confidence)):
        metric.process(None, samples)
        found.update(_with_ends(metric, metric.evaluate(len(samples)), confidence, len(samples)))
    if threshold is not None:
        answered = scores.double().amax(1) >= threshold
        wrong = answered & (scores.argmax(1) != labels)
        for name, part, whole in (
            ('answered', int(answered.sum()), len(answered)),
            ('error_of_answered', int(wrong.sum()), int(answered.sum())),
        ):
            low, high = (100 * end for end in share_interval(part, whole, confidence))
            found[name] = _entry(100 * part / whole if whole else None, low, high, confidence, whole, '%')
    return found


def metric_sentence(name: str, found: Mapping[str, Any]) -> str:
    """Format a metric with its interval in a line.

    Example:
        >>> metric_sentence('accuracy/top1', dict(value=90.0, low=55.5, high=99.75, images=10, unit='%'))
        'accuracy/top1 90.00 % (55.50 to 99.75) of 10 images'
    """
    if found['value'] is None:
        return f'{name}: no value, of {counted(found["images"], "image")}'
    ends = '' if found['low'] is None else f' ({found["low"]:.2f} to {found["high"]:.2f})'
    return f'{name} {found["value"]:.2f} {found["unit"]}{ends} of {counted(found["images"], "image")}'


def _with_ends(
    metric: BaseMetric, values: Mapping[str, float], confidence: float, images: int
) -> dict[str, dict[str, Any]]:
    """Group each value of a metric with the ends of its interval."""
    units: Mapping[str, str] = getattr(metric, 'units', {})
    return {
        name: _entry(
            value, values.get(f'{name}_low'), values.get(f'{name}_high'), confidence, images,
            next((unit for key, unit in units.items() if fnmatch.fnmatch(name.rpartition('/')[2], key)), ''),
        )
        for name, value in values.items()
        if not name.endswith(_ENDS)
    }  # fmt: skip


def _entry(
    value: Optional[float], low: Optional[float], high: Optional[float], confidence: float, images: int, unit: str
) -> dict[str, Any]:
    """Return a metric in JSON's types; NaN becomes null."""
    numbers = {
        name: None if number is None or number != number else float(number)
        for name, number in (('value', value), ('low', low), ('high', high))
    }
    return numbers | dict(confidence=confidence, images=images, unit=unit)


def _measured_labels(said: Tensor, true: Tensor, confidence: float) -> dict[str, dict[str, Any]]:
    """Return the macro F1 of predicted and true labels, 0 or 1, float64 (N, C) each."""

    def f1(weights: Tensor) -> Tensor:
        both, either = weights @ (true * said), weights @ (true + said)
        return torch.where(either > 0, 2 * both / either, 0.0).mean(1)

    low, high = bootstrap_interval(f1, len(true), confidence=confidence)
    value = float(f1(torch.ones(1, len(true), dtype=torch.float64)))
    return {'multi-label/f1': _entry(100 * value, 100 * float(low), 100 * float(high), confidence, len(true), '%')}


def recorded_metrics(checkpoint: str) -> dict[str, dict[str, Any]]:
    """Return the validation metrics that the training recorded for a best checkpoint; nothing for other checkpoints.

    Other checkpoints are written before their validation, so that the numbers in them are those of the one before. The
    training has no intervals unless its metrics were given a ``confidence``.
    """
    path = Path(checkpoint)
    if not path.is_file() or not path.name.startswith('best_'):
        return {}
    scalars = (read_checkpoint(path).get('message_hub') or {}).get('log_scalars') or {}
    values = {
        name.removeprefix('val/'): float(history.current())
        for name, history in scalars.items()
        if name.startswith('val/') and not name.endswith('time') and len(history.data[0])
    }
    return {
        name: dict(value=value, low=values.get(f'{name}_low'), high=values.get(f'{name}_high'), images=None, unit=None,
                   confidence=None, source='validation of the training')
        for name, value in values.items()
        if not name.endswith(_ENDS) and value == value
    }  # fmt: skip
