"""How good an exported model is, with intervals: measured on held-out images, or read from its checkpoint."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checkpoint_reading import read_checkpoint
from hybridcls.evaluation import Accuracy, CalibrationMetric
from hybridcls.functional.metrics.intervals import bootstrap_interval, share_interval

from ..calibration_fit import labelled_scores
from ..inferencer import HybridInferencer

__all__ = ['measure', 'measured', 'recorded_metrics']

_ENDS = ('_low', '_high')


def measure(
    model: HybridInferencer, data: str, confidence: float = 0.95, batch_size: Optional[int] = None
) -> dict[str, dict[str, Any]]:
    """Measure a model on held-out images: class folders, or a table with labels.

    With the calibration that the model was loaded with; see
    :func:`~hybridcls.apis.held_out_images.held_out_images` for which images are taken.

    Returns:
        dict[str, dict]: By name ``value``, ``low``, ``high`` (None where there are too few images for an interval),
        ``confidence``, ``images`` and ``unit``: ``accuracy/top1``, ``calibration/ece``, ``calibration/brier`` and
        ``calibration/nll``; with a threshold for the risk also ``answered`` and ``error_of_answered``; of several
        labels an image ``multi-label/f1``, the mean over the classes.

    Raises:
        ValueError: If there are no labelled images of the model's classes.
    """
    if model.multi_label:
        return _measured_labels(model, data, confidence, batch_size)
    given = labelled_scores(model, data, batch_size)
    risk = None if model.calibration is None else model.calibration.calibration.risk
    return measured(given.scores, given.labels, confidence, None if risk is None else risk['threshold'])


def measured(
    scores: Tensor, labels: Tensor, confidence: float = 0.95, threshold: Optional[float] = None
) -> dict[str, dict[str, Any]]:
    """Return accuracy and calibration of probabilities; see :func:`measure`.

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


def _with_ends(
    metric: BaseMetric, values: Mapping[str, float], confidence: float, images: int
) -> dict[str, dict[str, Any]]:
    """Gather each value of a metric with the ends of its interval."""
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
    """Return a metric in JSON's types, which have no NaN."""
    numbers = {
        name: None if number is None or number != number else float(number)
        for name, number in (('value', value), ('low', low), ('high', high))
    }
    return numbers | dict(confidence=confidence, images=images, unit=unit)


def _measured_labels(
    model: HybridInferencer, data: str, confidence: float, batch_size: Optional[int]
) -> dict[str, dict[str, Any]]:
    answers = [
        answer for answer in model(data, batch_size=batch_size, on_unreadable='skip') if answer.label is not None
    ]
    if not answers:
        raise ValueError(f'export: expected images with labels, got none in {data}.')
    numbers = {name: number for number, name in enumerate(model.classes)}
    true, said = (torch.zeros(len(answers), len(numbers), dtype=torch.float64) for _ in range(2))
    for row, answer in enumerate(answers):
        for table, text in ((true, answer.label), (said, answer.class_name)):
            for name in filter(None, (text or '').split('|')):
                table[row, numbers[name]] = 1

    def f1(weights: Tensor) -> Tensor:
        both, either = weights @ (true * said), weights @ (true + said)
        return torch.where(either > 0, 2 * both / either, 0.0).mean(1)

    low, high = bootstrap_interval(f1, len(answers), confidence=confidence)
    value = float(f1(torch.ones(1, len(answers), dtype=torch.float64)))
    return {'multi-label/f1': _entry(100 * value, 100 * float(low), 100 * float(high), confidence, len(answers), '%')}


def recorded_metrics(checkpoint: str) -> dict[str, dict[str, Any]]:
    """Return what a training measured on its validation images for a best checkpoint; nothing of others.

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
