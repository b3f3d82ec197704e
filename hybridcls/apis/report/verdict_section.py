"""The verdict at the top of a page: what can be trusted, what cannot, and what was not measured."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.checks import counted, listed
from hybridcls.evaluation import SelectiveMetric
from hybridcls.functional.metrics import fewest_units, mean_interval, share_interval

from .calibration_effect import CalibrationEffect, guarantee_holds
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, isolated, percent
from .numbers import of_metric
from .weak_classes import WeakClasses

__all__ = [
    'class_verdict', 'embedding_verdict', 'label_verdict', 'price_of_errors', 'verdict_numbers', 'verdict_section',
]  # fmt: skip

_RISKS = (0.01, 0.02, 0.05, 0.1)
_NAMED, _LOWEST = 5, 3
_ELSEWHERE = 'Images from another source, camera or time; the intervals do not cover them.'
_UNKNOWN = 'Images of none of the classes (--ood FOLDER).'
_CORRUPTED = 'Blurred, noisy or dark images (--corruptions).'

_IMAGES = 'Which images were used?'

Answer = tuple[str, str]
"""A question, and what the page answers."""


def verdict_section(answers: Sequence[Answer], prices: Sequence[Mapping[str, Any]] = ()) -> Section:
    """Show the verdict, and below it the cost of fewer errors (:func:`price_of_errors`)."""
    tables = [Table('What these images show about the model', ['question', 'answer'], answers, sorts=False)]
    if prices:
        rows = [
            [f'{100 * row["risk"]:g}', f'{row["answered"]:.1f}', _ends(row['answered_low'], row['answered_high']),
             _chance(row), percent(row['error']), _ends(row['error_low'], row['error_high'])]
            for row in prices
        ]  # fmt: skip
        head = ['error rate at most, %', 'images answered, %', '95 % interval', 'threshold: probability, %',
                'error rate of the answers, %', '95 % interval']  # fmt: skip
        title = 'What a lower error rate costs: images below the threshold get no answer'
        tables.append(Table(title, head, rows, set(range(6))))
    return Section('verdict', 'Summary', tables=tables)


def verdict_numbers(answers: Sequence[Answer]) -> list[dict[str, str]]:
    """Return the verdict in JSON's types."""
    return [dict(question=question, answer=answer) for question, answer in answers]


def price_of_errors(known: EvaluatedImages, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the coverage at an error of 1, 2, 5 and 10 % on these images.

    Returns:
        list[dict]: ``risk``, ``answered`` in percent with ``answered_low`` and ``answered_high`` (None: insufficient
        data), ``threshold``, the least probability that is answered, and ``error`` of these answers in percent with
        ``error_low`` and ``error_high``, its exact interval; these None where none is answered.
    """
    found = of_metric(SelectiveMetric(coverages=(), risks=_RISKS, confidence=0.95), known, classes)
    order = np.argsort(-known.confidence, kind='stable')
    rows = []
    for risk in _RISKS:
        key = f'selective/coverage_risk{100 * risk:g}_least_confidence'
        count = round(found[key] * len(known) / 100)
        wrong = int(known.wrong[order[:count]].sum())
        low, high = share_interval(wrong, count)
        rows.append(dict(
            risk=risk, answered=found[key],
            **{f'answered_{end}': _finite(found.get(f'{key}_{end}')) for end in ('low', 'high')},
            threshold=float(known.confidence[order[count - 1]]) if count else None,
            **dict(zip(('error', 'error_low', 'error_high'),
                       (100 * wrong / count, 100 * low, 100 * high) if count else (None,) * 3, strict=True)),
        ))  # fmt: skip
    return rows


def class_verdict(
    known: EvaluatedImages,
    classes: Sequence[str],
    headline: Sequence[Mapping[str, Any]],
    weak: WeakClasses,
    table: Sequence[Mapping[str, Any]],
    effect: CalibrationEffect,
    prices: Sequence[Mapping[str, Any]],
    about: Sequence[str],
    warnings: Sequence[str],
    unknown: Optional[EvaluatedImages] = None,
    rejection: Sequence[Mapping[str, Any]] = (),
    corrupted: Sequence[Mapping[str, Any]] = (),
    threshold: Optional[float] = None,
) -> list[Answer]:
    """Return the verdict on a model of one class an image.

    Args:
        known (EvaluatedImages): The images.
        classes (Sequence[str]): Names.
        headline (Sequence[Mapping]): Of :func:`~hybridcls.apis.report.numbers.headline`.
        weak (WeakClasses), table (Sequence[Mapping]): Of the classes.
        effect (CalibrationEffect): With what a threshold does here.
        prices (Sequence[Mapping]): Of :func:`price_of_errors`.
        about (Sequence[str]), warnings (Sequence[str]): Sentences: which images, and what is wrong with them.
        unknown (EvaluatedImages, optional), rejection (Sequence[Mapping]): Images of none of the classes, and how well
            scores tell them, the best first.
        corrupted (Sequence[Mapping]): Of :func:`~hybridcls.apis.report.corrupted_images.robustness`.
        threshold (float, optional): Of the calibration.
    """
    answers = [
        (_IMAGES, ' '.join(about)),
        ('How accurate is the model?', _rightness(known, classes, headline[0])),
        ('Which classes are weak?', _weakness(weak, table)),
        ('Can its probabilities be trusted?', _truth(known, effect)),
        ('Which answers should be rejected?', _rejecting(effect, prices, len(known))),
    ]
    missing = []
    if unknown is not None and rejection:
        answers.append(('Does it recognize unknown images?', _noticing(unknown, rejection, threshold)))
    else:
        missing.append(_UNKNOWN)
    if len(corrupted) > 1:
        worst = min(corrupted[1:], key=lambda row: row['accuracy'])
        answers.append((
            'How accurate is it on corrupted images?',
            f'The accuracy is {_percent(corrupted[0]["accuracy"])} on the images as they are. The lowest one is '
            f'{_percent(worst["accuracy"])} [{worst["accuracy_low"]:.1f}, {worst["accuracy_high"]:.1f}] '
            f'({worst["kind"]}, severity {worst["severity"]} of 5).',
        ))  # fmt: skip
    else:
        missing.append(_CORRUPTED)
    return [*answers, *_last(warnings, missing)]


def label_verdict(
    headline: Sequence[Mapping[str, Any]], table: Sequence[Mapping[str, Any]], about: Sequence[str],
    warnings: Sequence[str],
) -> list[Answer]:  # fmt: skip
    """Return the verdict on a multi-label model; arguments as for :func:`class_verdict`."""
    values = {row['key']: row for row in headline}
    exact, f1 = values['multi-label/exact'], values.get('multi-label/micro_f1')
    right = f'For {_with_ends(exact)} of the images, all labels are right and none is missing.'
    if f1 is not None:
        right += f' F1 over all labels together is {_with_ends(f1)}.'
        below = [row for row in table if row['f1_percent_high'] is not None and row['f1_percent_high'] < f1['value']]
        below.sort(key=lambda row: row['f1_percent'])
        said = 'No label is clearly weaker than the others.'
        if below:
            named = (
                f'{isolated(row["class"])} ({row["f1_percent"]:.0f} %, {counted(row["images"], "image")})'
                for row in below
            )
            said = f'F1 is clearly lower than over all labels: {listed(named, _NAMED)}.'
    few = [row for row in table if row['insufficient_data']]
    answers = [(_IMAGES, ' '.join(about)), ('How accurate is the model?', right)]
    if f1 is not None:
        answers.append(('Which labels are weak?', ' '.join([said, *_too_few([row['class'] for row in few], table)])))
    return [*answers, *_last(warnings, ['Images with none of the labels, and corrupted images.'])]


def embedding_verdict(
    headline: Sequence[Mapping[str, Any]], weak: WeakClasses, table: Sequence[Mapping[str, Any]],
    about: Sequence[str], warnings: Sequence[str],
) -> list[Answer]:  # fmt: skip
    """Return the verdict on a model of embeddings alone; arguments as for :func:`class_verdict`."""
    found = [f'For {_with_ends(row)} of the images ({row["name"]}).' for row in headline[:1]]
    return [
        (_IMAGES, ' '.join(about)),
        ('How often is the nearest other image of the same class?', ' '.join(found)),
        ('Which classes are weak?', _weakness(weak, table)),
        *_last(warnings, ['Images of other classes.']),
    ]


def _last(warnings: Sequence[str], missing: Sequence[str]) -> list[Answer]:
    return [
        ('What makes these numbers less reliable?', '\n'.join(warnings) or 'No problem was found.'),
        ('What was not measured?', ' '.join([*missing, _ELSEWHERE])),
    ]


def _rightness(known: EvaluatedImages, classes: Sequence[str], accuracy: Mapping[str, Any]) -> str:
    counts = np.bincount(known.labels, minlength=len(classes))
    most = int(counts.argmax())
    share = 100 * counts[most] / len(known)
    said = f'Accuracy {_with_ends(accuracy)} on {counted(len(known), "image")}.'
    if (counts > 0).sum() < 2:
        return f'{said} All images are of one class.'
    always = f'A model that always answers {isolated(classes[most])} has {_percent(share)}.'
    no_better = accuracy['low'] is None or accuracy['low'] <= share
    return f'{said} {always} This model is not clearly better.' if no_better else f'{said} {always}'


def _weakness(weak: WeakClasses, table: Sequence[Mapping[str, Any]]) -> str:
    rows = {row['class']: row for row in table}
    says = []
    for names, share, count, what in (
        (weak.missed, 'recall_percent', 'images', 'Low recall'),
        (weak.mistaken, 'precision_percent', 'predictions', 'Low precision'),
    ):
        if names:
            several = [rows[name] for name in names]
            says.append(f'{what}: {_named(several, share, count)}.')
    if not says and len(weak.unknown) < len(table):
        enough = [row for row in table if row['class'] not in weak.unknown]
        below = [row for row in enough if row['recall_percent'] < 100] if len(enough) > 1 else []
        lowest = sorted(below, key=lambda row: row['recall_percent'])[:_LOWEST]
        named = f' Lowest recall: {_named(lowest, "recall_percent", "images")}.' if lowest else ''
        says.append(f'No class is clearly weaker than the others.{named}')
    return ' '.join([*says, *_too_few(weak.unknown, table)])


def _too_few(names: Sequence[str], table: Sequence[Mapping[str, Any]]) -> list[str]:
    if not names:
        return []
    if len(names) == len(table) > 1:
        return ['All classes have too few images for a statement.']
    few = counted(len(names), 'class', 'classes', of=len(table))
    return [f'Too few images for a statement about {few}: {listed(map(isolated, names), _NAMED)}.']


def _named(rows: Sequence[Mapping[str, Any]], share: str, count: str) -> str:
    unit = count.removesuffix('s')
    return listed(
        (f'{isolated(row["class"])} ({row[share]:.0f} % of {counted(row[count], unit)})' for row in rows), _NAMED
    )


def _truth(known: EvaluatedImages, effect: CalibrationEffect) -> str:
    right = known.predicted == known.labels
    surplus = 100 * (torch.from_numpy(known.confidence).double() - torch.from_numpy(right).double())
    low, high = mean_interval(surplus)
    says, is_right = (_percent(100 * float(one.mean())) for one in (known.confidence, right))
    said = f'The mean probability of the answers is {says}, and {is_right} of them are right.'
    by = f'{abs(float(surplus.mean())):.1f} points'
    if low > 0:
        said += f' The probabilities are too high by {by} [{low:.1f}, {high:.1f}].'
    elif high < 0:
        said += f' The probabilities are too low by {by} [{-high:.1f}, {-low:.1f}].'
    elif low <= 0 <= high:
        said += ' On average, the two do not differ clearly.'
    else:  # no interval
        said += ' These are too few images for a statement.'
    if effect.kind != 'applied':
        said += ' The model is not calibrated.'
    elif effect.overlap:
        said += ' The model was calibrated on some of these images, so this result is too good.'
    return said


def _rejecting(effect: CalibrationEffect, prices: Sequence[Mapping[str, Any]], images: int) -> str:
    if effect.threshold is not None:
        found, risk = effect.threshold, 100 * effect.threshold['risk']
        said = f'The threshold of the calibration answers {_share(found["answered"])} of the images.'
        if not found['images']:
            return said
        wrong = found['errors']
        return (
            f'{said} It guarantees at most {risk:g} % wrong answers. Here {_share(wrong)} are wrong: '
            f'{guarantee_holds(wrong, risk / 100)}.'
        )
    price = next(row for row in prices if row['risk'] == effect.risk)
    said = f'No threshold keeps the error rate at {100 * price["risk"]:g} % on these images.'
    if images < fewest_units():  # that all of one or two are right says nothing of a share
        said = 'Too few images for a statement.'
    elif price['threshold'] is not None:
        ends = f'{price["error_low"]:.1f}, {price["error_high"]:.1f}'
        rejected = (
            f'reject the images with a probability below {_chance(price)} %. These are {100 - price["answered"]:.1f} % '
            'of the images. Of the other answers,' if price['answered'] < 100
            else 'no image has to be rejected. Of all answers,'
        )  # fmt: skip
        said = (
            f'For an error rate of at most {100 * price["risk"]:g} %, {rejected} {price["error"]:.1f} % [{ends}] are '
            'wrong. This threshold was chosen on these images.'
        )
    return f'{said} For a threshold with a guarantee for other images: hybridcls calibrate --risk.'


def _noticing(
    unknown: EvaluatedImages, rejection: Sequence[Mapping[str, Any]], threshold: Optional[float]
) -> str:  # fmt: skip
    best = rejection[0]
    least = best['auroc'] if best['low'] is None else best['low']
    notices = 'Hardly' if least <= 50 or best['fpr95'] > 80 else 'Partly' if best['fpr95'] > 20 else 'Mostly'
    said = (
        f'{notices}: if 95 % of the known images are accepted, {_percent(best["fpr95"])} of these '
        f'{counted(len(unknown), "unknown image")} are accepted, too (best of {len(rejection)} scores: '
        f'{best["score"].replace("_", " ")}).'
    )
    if threshold is not None:
        answered = 100 * float((unknown.confidence.astype(np.float64) >= threshold).mean())
        said += f' The threshold of the calibration answers {_percent(answered)} of them; all these answers are wrong.'
    return said


def _with_ends(row: Mapping[str, Any]) -> str:
    return f'{_percent(row["value"])}' + ('' if row['low'] is None else f' [{row["low"]:.1f}, {row["high"]:.1f}]')


def _share(share: Mapping[str, float]) -> str:
    return f'{_percent(100 * share["value"])} [{100 * share["low"]:.1f}, {100 * share["high"]:.1f}]'


def _ends(low: Optional[float], high: Optional[float]) -> Optional[str]:
    return None if low is None or high is None else f'{low:.1f} to {high:.1f}'


def _chance(price: Mapping[str, Any]) -> Optional[str]:
    return None if price['threshold'] is None else f'{100 * price["threshold"]:.1f}'


def _percent(value: float) -> str:
    return f'{value:.1f} %'


def _finite(value: Any) -> Optional[float]:
    return value if value is not None and np.isfinite(value) else None
