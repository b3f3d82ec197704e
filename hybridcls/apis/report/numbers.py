"""The numbers of a report, computed by the metrics of a test."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.evaluation import Accuracy, CalibrationMetric, ClassReport, OODMetric, RetrievalMetric, SelectiveMetric
from hybridcls.functional.metrics import risk_coverage, share_interval

from .evaluated_images import EvaluatedImages

__all__ = [
    'class_numbers',
    'error_counts',
    'headline',
    'of_metric',
    'reliability',
    'rejection_numbers',
    'retrieval_headline',
    'risk_curve',
]

_CONFIDENCE = 0.95


def of_metric(metric: Any, images: EvaluatedImages, classes: Sequence[str]) -> dict[str, Any]:
    """Evaluate a metric on images; results that cannot be computed are missing."""
    metric.dataset_meta = dict(classes=list(classes))
    metric.process(None, list(images.samples()))
    return metric.evaluate(size=len(images))


def headline(images: EvaluatedImages, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the headline numbers: ``name``, ``value``, ``low``, ``high``, ``unit``, ``better``, ``what``."""
    topk = (1, 5) if len(classes) > 5 else (1,)
    found = {
        **of_metric(Accuracy(topk=topk, confidence=_CONFIDENCE), images, classes),
        **of_metric(CalibrationMetric(confidence=_CONFIDENCE), images, classes),
        **of_metric(SelectiveMetric(confidence=_CONFIDENCE), images, classes),
    }
    report = of_metric(ClassReport(confidence=_CONFIDENCE), images, classes)
    found.update({name: value for name, value in report.items() if 'macro' in name})
    rows = (
        ('accuracy/top1', 'Accuracy', '%', 'higher', 'share of images whose most probable class is right'),
        (
            'accuracy/top5',
            'Top-5 accuracy',
            '%',
            'higher',
            'share of images whose right class is among the five most probable',
        ),
        ('classes/macro_recall', 'Balanced accuracy', '%', 'higher', 'mean of the recall of each class'),
        ('classes/macro_f1', 'Macro F1', '%', 'higher', 'mean of the F1 score of each class'),
        ('calibration/nll', 'NLL', 'nats', 'lower', 'mean of -log(probability of the right class)'),
        (
            'calibration/ece',
            'ECE',
            '%',
            'lower',
            'mean gap between the probability of answers and how often they are right',
        ),
        (
            'calibration/brier',
            'Brier score',
            '',
            'lower',
            'squared distance of the probabilities from the right class, 0 to 2',
        ),
        (
            'selective/aurc_least_confidence',
            'AURC',
            '%',
            'lower',
            'error rate, averaged over all shares of answered images',
        ),
    )
    return _rows(found, rows)


def _rows(found: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [
        dict(
            key=key,
            name=name,
            value=found[key],
            low=_finite(found.get(f'{key}_low')),
            high=_finite(found.get(f'{key}_high')),
            unit=unit,
            better=better,
            what=what,
        )
        for key, name, unit, better, what in rows
        if isinstance(found.get(key), (int, float))
    ]


def retrieval_headline(images: EvaluatedImages) -> list[dict[str, Any]]:
    """Return the headline numbers of embeddings, by searching each image among the others; see :func:`headline`."""
    vectors, labels = torch.from_numpy(images.embeddings), torch.from_numpy(images.labels)  # type: ignore[arg-type]
    samples = [
        dict(embedding=vector, gt_label=label, pred_score=score)
        for vector, label, score in zip(vectors, labels.unsqueeze(1), torch.from_numpy(images.scores), strict=True)
    ]
    found: dict[str, Any] = {}
    for metric in (RetrievalMetric(topk=(1, 5), confidence=_CONFIDENCE), Accuracy(confidence=_CONFIDENCE)):
        metric.process(None, samples)
        found.update(metric.evaluate(size=len(samples)))
    rows = (
        (
            'retrieval/recall@1',
            'Recall@1',
            '%',
            'higher',
            'share of images whose nearest other image is of the same class',
        ),
        (
            'retrieval/recall@5',
            'Recall@5',
            '%',
            'higher',
            'share of images with one of the same class among the five nearest',
        ),
        (
            'retrieval/map@r',
            'MAP@R',
            '%',
            'higher',
            'mean average precision among the R nearest, R images of the same class',
        ),
        (
            'retrieval/precision@r',
            'R-precision',
            '%',
            'higher',
            'share of the same class among the R nearest, R images of the same class',
        ),
        (
            'accuracy/top1',
            'kNN accuracy',
            '%',
            'higher',
            'share of images whose nearest neighbours vote for the right class',
        ),
    )
    return _rows(found, rows)


def _finite(value: Any) -> Optional[float]:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def class_numbers(images: EvaluatedImages, classes: Sequence[str]) -> tuple[list[dict], list[dict]]:
    """Return the rows of the classes, and those of the confused pairs, of :class:`ClassReport`."""
    report = of_metric(ClassReport(confidence=_CONFIDENCE, most=200), images, classes)
    return list(report['classes/table']), list(report['classes/confusions'])


def error_counts(images: EvaluatedImages) -> dict[str, int]:
    """Return the number of ``wrong_images``, and the number of pairs of a true and a predicted class among them."""
    wrong = images.wrong
    pairs = np.unique(np.stack([images.labels[wrong], images.predicted[wrong]], 1), axis=0)
    return dict(wrong_images=int(wrong.sum()), confused_pairs=len(pairs))


def reliability(images: EvaluatedImages, bins: int = 15) -> dict[str, list[float]]:
    """Return the bins of a reliability diagram: mean ``confidence``, share of ``right`` answers.

    With ``low`` and ``high``, the ends of the exact interval of that share, and the number of ``images``.
    """
    confidence = images.confidence.astype(np.float64)
    right = images.predicted == images.labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows: dict[str, list[float]] = dict(confidence=[], right=[], low=[], high=[], images=[])
    for one in range(bins):
        inside = place == one
        if inside.any():
            rows['confidence'].append(float(confidence[inside].mean()))
            rows['right'].append(float(right[inside].mean()))
            ends = share_interval(int(right[inside].sum()), int(inside.sum()), _CONFIDENCE)
            rows['low'].append(ends.low)
            rows['high'].append(ends.high)
            rows['images'].append(int(inside.sum()))
    return rows


def risk_curve(images: EvaluatedImages, points: int = 200) -> dict[str, list[float]]:
    """Return ``coverage`` and ``risk``, as shares, of the images ranked by confidence."""
    errors = torch.from_numpy(images.predicted != images.labels)
    risk = risk_coverage(1 - torch.from_numpy(images.confidence).double(), errors).numpy()
    kept = np.unique(np.linspace(0, len(risk) - 1, min(points, len(risk))).round().astype(int))
    return dict(coverage=((kept + 1) / len(risk)).tolist(), risk=risk[kept].tolist())


def rejection_numbers(
    known: EvaluatedImages, unknown: EvaluatedImages, classes: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return how well each score tells known from unknown images, the best first: ``score``, ``auroc``, ``fpr95``."""
    names = ['least_confidence', 'entropy', *known.uncertainties]
    both = EvaluatedImages(
        [*known.items, *unknown.items],
        np.concatenate([known.labels, unknown.labels]),
        np.concatenate([known.scores, unknown.scores]),
        None,
        {
            name: np.concatenate([known.uncertainties[name], unknown.uncertainties[name]])
            for name in known.uncertainties
        },
    )
    found = of_metric(OODMetric(scores=names, confidence=_CONFIDENCE), both, classes)
    rows = [
        dict(
            score=name,
            auroc=found[f'ood/auroc_{name}'],
            low=_finite(found.get(f'ood/auroc_{name}_low')),
            high=_finite(found.get(f'ood/auroc_{name}_high')),
            fpr95=found[f'ood/fpr95_{name}'],
        )
        for name in names
        if f'ood/auroc_{name}' in found
    ]
    return sorted(rows, key=lambda row: -row['auroc'])
