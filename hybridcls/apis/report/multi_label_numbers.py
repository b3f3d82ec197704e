"""The numbers of a report on a multi-label model."""

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.evaluation import AveragePrecision
from hybridcls.functional.metrics import bootstrap_interval, fewest_units, share_interval

from .evaluated_images import EvaluatedImages

__all__ = ['labels_of', 'multi_label_numbers', 'weighted_average_precisions']

_RESAMPLES, _FEWEST_RESAMPLES, _MOST_STEPS = 1000, 200, 2e9  # steps: resamples x images x classes


def multi_label_numbers(
    images: EvaluatedImages, classes: Sequence[str], thresholds: Optional[Sequence[float]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the headline, and one row per class.

    Intervals of average precision, F1 and exact answers are bootstrap ones over the images; those of precision and
    recall, which are shares of images, are exact. A class with too few images (``insufficient_data``) has none, and a
    mean over classes has none where many resamples lack a class.

    Args:
        images (EvaluatedImages): With ``truths`` and ``answers``.
        classes (Sequence[str]): Their names.
        thresholds (Sequence[float], optional): From which score on each is given. None: the best few of an image are.

    Returns:
        tuple[list[dict], list[dict]]: As :func:`~hybridcls.apis.report.numbers.headline` returns the first.
    """
    truths, answers = labels_of(images)
    precisions = _average_precisions(images.scores, truths)
    hits = truths & answers
    names = ('average_precision', 'f1', 'means', 'counted')
    ends = dict(zip(names, zip(*_intervals(images.scores, truths, answers, images.wrong), strict=True), strict=True))
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(classes):
        own, given, right = (int(one[:, number].sum()) for one in (truths, answers, hits))
        few = own < fewest_units()
        rows.append({
            'class': name, 'images': own, 'answers': given,
            'threshold': None if thresholds is None else float(thresholds[number]),
            'insufficient_data': few,
            **_percents('average_precision', precisions[number], ends['average_precision'], number, few),
            **_shares('precision', right, given), **_shares('recall', right, own),
            **_percents('f1', _share(2 * right, own + given), ends['f1'], number, few),
        })  # fmt: skip
    values = [row['average_precision_percent'] for row in rows if row['average_precision_percent'] is not None]
    found = (
        ('multi-label/mAP', 'mAP', float(np.mean(values)) if values else None, 'means', 0,
         'mean of the average precision of each class that has images'),
        ('multi-label/f1', 'Macro F1', float(np.mean([row['f1_percent'] or 0.0 for row in rows])), 'means', 1,
         'mean of the F1 score of each class, at the thresholds of the model'),
        ('multi-label/micro_f1', 'Micro F1', _share(2 * hits.sum(), truths.sum() + answers.sum()), 'counted', 0,
         'F1 score of all labels of all images together'),
        ('multi-label/exact', 'Exact answers', _share((~images.wrong).sum(), len(images)), 'counted', 1,
         'share of images whose labels are all right and none missing'),
    )  # fmt: skip
    headline = []
    for key, name, value, kind, place, what in found:
        low, high = (_finite(100 * float(end[place])) for end in ends[kind])
        headline.append(dict(key=key, name=name, value=value, low=low, high=high, unit='%', better='higher', what=what))
    return [row for row in headline if row['value'] is not None], rows


def labels_of(images: EvaluatedImages) -> tuple[np.ndarray, np.ndarray]:
    """Return the true labels of the images, and the predicted ones.

    Raises:
        ValueError: If they are of one class each.
    """
    if images.truths is None or images.answers is None:
        raise ValueError('multi_label_numbers: expected images with truths and answers, got those of one class each.')
    return images.truths, images.answers


def weighted_average_precisions(scores: Tensor, truths: Tensor, weights: Tensor) -> Tensor:
    """Return the average precision of each class in each resample, float64 (R, C); NaN without a positive.

    That of scikit-learn's ``average_precision_score`` with ``sample_weight``: equal scores are one threshold. As in
    ``AveragePrecision`` a score that is NaN counts as 0.

    Args:
        scores (Tensor): Shape (N, C).
        truths (Tensor): Which labels images have, bool (N, C).
        weights (Tensor): How often each image was drawn, float64 (R, N).
    """
    found = []
    for score, truth in zip(scores.nan_to_num(0.0).T, truths.T, strict=True):
        ranked = score.sort(descending=True)
        counts = ranked.values.unique_consecutive(return_counts=True)[1]
        last = (counts.cumsum(0) - 1).repeat_interleave(counts)  # of those of equal score
        positive = truth[ranked.indices].nonzero().squeeze(1)
        drawn = weights[:, ranked.indices]
        until, hits = drawn.cumsum(1)[:, last[positive]], drawn[:, positive]
        above = torch.searchsorted(positive, last[positive], right=True) - 1
        right = hits.cumsum(1)[:, above]
        found.append((hits * (right / until).nan_to_num()).sum(1) / hits.sum(1))
    return torch.stack(found, 1)


def _intervals(
    scores: np.ndarray, truths: np.ndarray, answers: np.ndarray, wrong: np.ndarray
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the interval ends of average precision and F1 by class, of their means, and of two ratios."""
    there, has = torch.from_numpy(scores), torch.from_numpy(truths)
    positive, given = has.double(), torch.from_numpy(answers).double()
    right, exact = positive * given, torch.from_numpy(~wrong).double()
    occurs, count = (positive.any(0), (positive + given).any(0)), truths.shape[1]

    def statistic(weights: Tensor) -> Tensor:
        above, below = 2 * (weights @ right), weights @ (positive + given)
        each = weighted_average_precisions(there, has, weights), above / below
        means = each[0][:, occurs[0]].mean(1), each[1][:, occurs[1]].sum(1) / count
        ratios = above.sum(1) / below.sum(1), (weights @ exact) / weights.sum(1)
        return torch.cat([*each, torch.stack([*means, *ratios], 1)], 1)

    resamples = int(np.clip(_MOST_STEPS / max(truths.size, 1), _FEWEST_RESAMPLES, _RESAMPLES))
    ends = bootstrap_interval(statistic, len(scores), resamples=resamples)
    low, high = (list(end.split([count, count, 2, 2])) for end in ends)
    return low, high


def _average_precisions(scores: np.ndarray, truths: np.ndarray) -> list[Optional[float]]:
    metric = AveragePrecision(average=None)
    samples = [
        dict(pred_score=torch.from_numpy(score), gt_score=torch.from_numpy(truth).long())
        for score, truth in zip(scores, truths, strict=True)
    ]
    found = metric.compute_metrics(samples).get('AP_classwise') or [float('nan')] * truths.shape[1]
    return [_finite(float(one)) for one in found]


def _percents(
    name: str, value: Optional[float], ends: Sequence[Tensor], number: int, few: bool
) -> dict[str, Optional[float]]:
    low, high = (None if few or value is None else _finite(100 * float(end[number])) for end in ends)
    return {f'{name}_percent': value, f'{name}_percent_low': low, f'{name}_percent_high': high}


def _shares(name: str, part: int, whole: int) -> dict[str, Optional[float]]:
    low, high = share_interval(part, whole) if whole else (None, None)
    found = {f'{name}_percent': _share(part, whole)}
    for end, value in (('low', low), ('high', high)):
        found[f'{name}_percent_{end}'] = None if value is None else 100 * value
    return found


def _share(part: Any, whole: Any) -> Optional[float]:
    return 100 * float(part) / float(whole) if whole else None


def _finite(value: float) -> Optional[float]:
    return value if np.isfinite(value) else None
