"""A report of a model of several labels an image, or none."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.evaluation import AveragePrecision
from hybridcls.functional.metrics import bootstrap_interval

from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, isolated, percent, shown_probability
from .thumbnails import thumbnail

__all__ = ['multi_label_classes_section', 'multi_label_images_section', 'multi_label_numbers']

_SHOWN = 24


def multi_label_numbers(
    images: EvaluatedImages, classes: Sequence[str], thresholds: Sequence[float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the headline, and a row a class.

    Args:
        images (EvaluatedImages): With ``truths`` and ``answers``.
        classes (Sequence[str]): Their names.
        thresholds (Sequence[float]): From which score on each is given.

    Returns:
        tuple[list[dict], list[dict]]: As :func:`~hybridcls.apis.report.numbers.headline` returns the first.
    """
    truths, answers = _labels(images)
    each = _average_precisions(images.scores, truths)
    hits = truths & answers
    rows: list[dict[str, Any]] = [
        {
            'class': name,
            'images': int(truths[:, number].sum()),
            'answers': int(answers[:, number].sum()),
            'threshold': float(thresholds[number]),
            'average_precision_percent': each[number],
            'precision_percent': _share(hits[:, number].sum(), answers[:, number].sum()),
            'recall_percent': _share(hits[:, number].sum(), truths[:, number].sum()),
            'f1_percent': _share(2 * hits[:, number].sum(), truths[:, number].sum() + answers[:, number].sum()),
        }
        for number, name in enumerate(classes)
    ]
    values = [row['average_precision_percent'] for row in rows if row['average_precision_percent'] is not None]
    found = [
        _number('multi-label/mAP', 'mAP', float(np.mean(values)) if values else None,
                'mean over the classes with images of their average precision'),
        _number('multi-label/f1', 'Macro F1', float(np.mean([row['f1_percent'] or 0.0 for row in rows])),
                'mean over the classes of F1, at the thresholds of the model'),
        _counted('multi-label/micro_f1', 'Micro F1', 2 * hits.sum(1), truths.sum(1) + answers.sum(1),
                 'F1 of all labels of all images together'),
        _counted('multi-label/exact', 'Exact answers', ~images.wrong, np.ones(len(images)),
                 'share of images with exactly their labels'),
    ]  # fmt: skip
    return [row for row in found if row['value'] is not None], rows


def _labels(images: EvaluatedImages) -> tuple[np.ndarray, np.ndarray]:
    if images.truths is None or images.answers is None:
        raise ValueError('multi_label_section: expected images with truths and answers, got those of one class each.')
    return images.truths, images.answers


def _number(key: str, name: str, value: Optional[float], what: str, **ends: Optional[float]) -> dict[str, Any]:
    return dict(
        key=key,
        name=name,
        value=value,
        low=ends.get('low'),
        high=ends.get('high'),
        unit='%',
        better='higher',
        what=what,
    )


def _counted(key: str, name: str, above: np.ndarray, below: np.ndarray, what: str) -> dict[str, Any]:
    """Return the ratio of two sums over images, with its bootstrap interval."""
    top, bottom = (torch.from_numpy(np.asarray(one, dtype=np.float64)) for one in (above, below))
    value = _share(above.sum(), below.sum())
    ends = bootstrap_interval(lambda weights: (weights @ top) / (weights @ bottom), len(top))
    low, high = (100 * float(one) for one in ends)
    return _number(key, name, value, what, **(dict(low=low, high=high) if np.isfinite([low, high]).all() else {}))


def _average_precisions(scores: np.ndarray, truths: np.ndarray) -> list[Optional[float]]:
    metric = AveragePrecision(average=None)
    samples = [
        dict(pred_score=torch.from_numpy(score), gt_score=torch.from_numpy(truth).long())
        for score, truth in zip(scores, truths, strict=True)
    ]
    found = metric.compute_metrics(samples).get('AP_classwise') or [float('nan')] * truths.shape[1]
    return [float(one) if np.isfinite(one) else None for one in found]


def _share(part: Any, whole: Any) -> Optional[float]:
    return 100 * float(part) / float(whole) if whole else None


def multi_label_classes_section(rows: Sequence[dict[str, Any]]) -> Section:
    """Show the rows of the classes."""
    cells = [
        [row['class'], row['images'], percent(row['average_precision_percent']), f'{row["threshold"]:.2f}',
         percent(row['precision_percent']), percent(row['recall_percent']), percent(row['f1_percent']), row['answers']]
        for row in rows
    ]  # fmt: skip
    head = ['class', 'images', 'average precision, %', 'threshold', 'precision, %', 'recall, %', 'F1, %', 'answers']
    return Section('classes', 'Class by class', tables=[Table('Classes', head, cells, set(range(1, 8)))])


def multi_label_images_section(images: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the labels that were missed most clearly, and those that were given most surely without being there."""
    truths, answers = _labels(images)
    groups = []
    for title, places, ways in (
        ('Labels that are missed, the least probable first', truths & ~answers, 1),
        ('Labels that are given and not there, the most probable first', answers & ~truths, -1),
    ):
        rows, columns = np.nonzero(places)
        order = np.argsort(ways * images.scores[rows, columns], kind='stable')[:_SHOWN]
        pictures = []
        for row, column in zip(rows[order], columns[order], strict=True):
            item, score = images.items[row], images.scores[row, column]
            said = isolated(images.class_text(int(row), classes))
            text = f'{isolated(classes[column])} {shown_probability(score)}; has {said}'
            pictures.append(dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text))
        if pictures:
            groups.append(dict(title=f'{title} ({len(rows)})', pictures=pictures))
    say = f'{int(images.wrong.sum())} of {len(images)} images have other labels than the model gives.'
    return Section('images', 'Images to look at', [say], groups=groups)
