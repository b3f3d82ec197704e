"""Evaluate a model on corrupted images, as ``hybridcls test --corruptions`` does."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import numpy as np

from hybridcls.datasets.transforms.corrupt import SEVERITIES, Corrupt
from hybridcls.evaluation import CalibrationMetric
from hybridcls.functional.metrics import share_interval

from ..image_inputs import Item
from ..inferencer import HybridInferencer
from .evaluated_images import EvaluatedImages, evaluate_images
from .numbers import of_metric

__all__ = ['corrupted_images', 'robustness']

_CONFIDENCE = 0.95


@contextmanager
def _corrupting(model: HybridInferencer, items: Sequence[Item]) -> Iterator[Corrupt]:
    """Insert a corruption into the model's pipeline in the block, at the position where CorruptionTestLoop has it."""
    places = {item.source: place for place, item in enumerate(items)}

    def numbered(results: dict[str, Any]) -> dict[str, Any]:
        results['sample_idx'] = places[results['img_path']]  # the noise is that of the place in the data
        return results

    corrupt = Corrupt()
    transforms = model.pipeline.transforms
    kept = list(transforms)
    transforms[:] = [numbered, *kept[:-1], corrupt, kept[-1]]
    try:
        yield corrupt
    finally:
        transforms[:] = kept


def corrupted_images(
    model: HybridInferencer,
    items: Sequence[Item],
    kinds: Sequence[str],
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
) -> Iterator[tuple[str, int, EvaluatedImages]]:
    """Yield each kind and severity, with the evaluation of all images under it.

    Args:
        model (HybridInferencer): With classes.
        items (Sequence[Item]): Images in files.
        kinds (Sequence[str]): Of :class:`~hybridcls.datasets.transforms.Corrupt`.
        batch_size (int, optional), workers (int, optional): As for a call of the model.

    Raises:
        ValueError: If a kind does not exist.
        TypeError: If images are not of 8 bits.
    """
    for kind in kinds:
        for severity in SEVERITIES:
            with _corrupting(model, items) as corrupt:
                corrupt.set(kind, severity)
                yield kind, severity, evaluate_images(model, items, batch_size, workers)


def robustness(
    model: HybridInferencer,
    known: EvaluatedImages,
    kinds: Sequence[str],
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Return accuracy, calibration error and coverage of the clean images, and of each kind and severity.

    Returns:
        list[dict]: ``kind`` (None of the clean ones), ``severity``, ``accuracy`` and ``ece`` in percent with their ends
        ``..._low`` and ``..._high``, ``confidence``, the mean one, in percent, and with a calibration that has a
        threshold ``unanswered`` and ``error``, of the answered ones, in percent.
    """
    risk = None if model.calibration is None else model.calibration.calibration.risk
    threshold = None if risk is None else risk['threshold']
    rows = [_row(None, 0, known, model.classes, threshold)]
    for kind, severity, images in corrupted_images(model, known.items, kinds, batch_size, workers):
        rows.append(_row(kind, severity, images, model.classes, threshold))
        tell(f'{kind}, severity {severity}: accuracy {rows[-1]["accuracy"]:.1f} %')
    return rows


def _row(
    kind: Optional[str], severity: int, images: EvaluatedImages, classes: Sequence[str], threshold: Optional[float]
) -> dict[str, Any]:
    right = images.predicted == images.labels
    ends = share_interval(int(right.sum()), len(right), _CONFIDENCE)
    found = of_metric(CalibrationMetric(confidence=_CONFIDENCE), images, classes)
    row = dict(
        kind=kind, severity=severity, accuracy=100 * float(right.mean()), accuracy_low=100 * ends.low,
        accuracy_high=100 * ends.high, confidence=100 * float(images.confidence.mean()),
        **{name: found.get(f'calibration/{name}') for name in ('ece', 'ece_low', 'ece_high')},
    )  # fmt: skip
    if threshold is not None:
        answered = images.confidence.astype(np.float64) >= threshold
        row['unanswered'] = 100 * float(1 - answered.mean())
        row['error'] = 100 * float((~right[answered]).mean()) if answered.any() else None
    return row
