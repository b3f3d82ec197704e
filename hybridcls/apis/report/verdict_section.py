"""The verdict at the top of a page: what can be trusted, what cannot, and what was not measured."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.checks import counted, listed
from hybridcls.evaluation import SelectiveMetric
from hybridcls.functional.metrics import fewest_units, mean_interval, share_interval

from .calibration_effect import CalibrationEffect
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, isolated, percent
from .numbers import of_metric
from .weak_classes import WeakClasses

__all__ = [
    'class_verdict', 'embedding_verdict', 'label_verdict', 'price_of_errors', 'verdict_numbers', 'verdict_section',
]  # fmt: skip

_RISKS = (0.01, 0.02, 0.05, 0.1)
_NAMED, _LOWEST = 5, 3
_ELSEWHERE = 'Images of another source, camera or time than these: the intervals say nothing of them.'
_UNKNOWN = 'Images of none of the classes: --ood FOLDER.'
_CORRUPTED = 'Blurred, noisy or dark images: --corruptions.'

Answer = tuple[str, str]
"""A question, and what the page answers."""


def verdict_section(answers: Sequence[Answer], prices: Sequence[Mapping[str, Any]] = ()) -> Section:
    """Show the verdict, and below it the cost of fewer errors (:func:`price_of_errors`)."""
    tables = [Table('What these images say of the model', ['question', 'answer'], answers, sorts=False)]
    if prices:
        rows = [
            [f'{100 * row["risk"]:g}', f'{row["answered"]:.1f}', _ends(row['answered_low'], row['answered_high']),
             _chance(row), percent(row['error']), _ends(row['error_low'], row['error_high'])]
            for row in prices
        ]  # fmt: skip
        head = ['errors at most, %', 'images answered, %', '95 % interval', 'from probability, %', 'errors of these, %',
                '95 % interval']  # fmt: skip
        tables.append(Table('What fewer errors cost: the other images are rejected', head, rows, set(range(6))))
    return Section('verdict', 'In short', tables=tables)


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
        ('Which images?', ' '.join(about)),
        ('How often is it right?', _rightness(known, classes, headline[0])),
        ('Which classes are weak?', _weakness(weak, table)),
        ('Are its probabilities true?', _truth(known, effect)),
        ('Which answers should be rejected?', _rejecting(effect, prices, len(known))),
    ]
    missing = []
    if unknown is not None and rejection:
        answers.append(('Does it notice images of none of its classes?', _noticing(unknown, rejection, threshold)))
    else:
        missing.append(_UNKNOWN)
    if len(corrupted) > 1:
        worst = min(corrupted[1:], key=lambda row: row['accuracy'])
        answers.append((
            'Does it hold on worse images?',
            f'Of images as they are {_percent(corrupted[0]["accuracy"])} are right; at worst ({worst["kind"]}, '
            f'severity {worst["severity"]} of 5) {_percent(worst["accuracy"])} '
            f'[{worst["accuracy_low"]:.1f}, {worst["accuracy_high"]:.1f}].',
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
    right = f'All labels of an image are right, and none is missing, for {_with_ends(exact)} of the images.'
    if f1 is not None:
        right += f' Of all labels together F1 is {_with_ends(f1)}.'
        below = [row for row in table if row['f1_percent_high'] is not None and row['f1_percent_high'] < f1['value']]
        below.sort(key=lambda row: row['f1_percent'])
        said = 'None is clearly below the others.'
        if below:
            named = (
                f'{isolated(row["class"])} ({row["f1_percent"]:.0f} %, {counted(row["images"], "image")})'
                for row in below
            )
            said = f'F1 is clearly below that of all: {listed(named, _NAMED)}.'
    few = [row for row in table if row['insufficient_data']]
    answers = [('Which images?', ' '.join(about)), ('How often is it right?', right)]
    if f1 is not None:
        answers.append(('Which labels are weak?', ' '.join([said, *_too_few([row['class'] for row in few], table)])))
    return [*answers, *_last(warnings, ['Images with none of the labels, and worse images than these.'])]


def embedding_verdict(
    headline: Sequence[Mapping[str, Any]], weak: WeakClasses, table: Sequence[Mapping[str, Any]],
    about: Sequence[str], warnings: Sequence[str],
) -> list[Answer]:  # fmt: skip
    """Return the verdict on a model of embeddings alone; arguments as for :func:`class_verdict`."""
    found = '; '.join(f'{row["name"]} {_with_ends(row)}: {row["what"]}' for row in headline[:1])
    return [
        ('Which images?', ' '.join(about)),
        ('How often does it find the class?', f'{found}.'),
        ('Which classes are weak?', _weakness(weak, table)),
        *_last(warnings, ['Images of other classes than these.']),
    ]


def _last(warnings: Sequence[str], missing: Sequence[str]) -> list[Answer]:
    return [
        ('What speaks against these numbers?', '\n'.join(warnings) or 'Nothing that was looked for.'),
        ('What was not measured?', ' '.join([*missing, _ELSEWHERE])),
    ]


def _rightness(known: EvaluatedImages, classes: Sequence[str], accuracy: Mapping[str, Any]) -> str:
    counts = np.bincount(known.labels, minlength=len(classes))
    most = int(counts.argmax())
    share = 100 * counts[most] / len(known)
    said = f'{_with_ends(accuracy)} of {counted(len(known), "image")}.'
    if (counts > 0).sum() < 2:
        return f'{said} All are of one class.'
    always = f'Always answering {isolated(classes[most])} would be right for {_percent(share)}'
    no_better = accuracy['low'] is None or accuracy['low'] <= share
    return f'{said} {always}: as far as these images tell, it is no better.' if no_better else f'{said} {always}.'


def _weakness(weak: WeakClasses, table: Sequence[Mapping[str, Any]]) -> str:
    rows = {row['class']: row for row in table}
    says = []
    for names, share, count, what in (
        (weak.missed, 'recall_percent', 'images', 'Found more seldom than the rest'),
        (weak.mistaken, 'precision_percent', 'predictions', 'Answers that are wrong more often than the rest'),
    ):
        if names:
            several = [rows[name] for name in names]
            unit = 'images right' if count == 'images' else 'answers right'
            says.append(f'{what}: {_named(several, share, count, unit)}.')
    if not says and len(weak.unknown) < len(table):
        enough = [row for row in table if row['class'] not in weak.unknown]
        below = [row for row in enough if row['recall_percent'] < 100] if len(enough) > 1 else []
        lowest = sorted(below, key=lambda row: row['recall_percent'])[:_LOWEST]
        named = f' The lowest: {_named(lowest, "recall_percent", "images", "images right")}.' if lowest else ''
        says.append(f'None is clearly weaker than the others.{named}')
    return ' '.join([*says, *_too_few(weak.unknown, table)])


def _too_few(names: Sequence[str], table: Sequence[Mapping[str, Any]]) -> list[str]:
    if not names:
        return []
    if len(names) == len(table) > 1:
        return ['All have too few images here to tell.']
    return [f'Too few images to tell of {len(names)} of {len(table)}: {listed(map(isolated, names), _NAMED)}.']


def _named(rows: Sequence[Mapping[str, Any]], share: str, count: str, unit: str) -> str:
    return listed((f'{isolated(row["class"])} ({row[share]:.0f} % of {row[count]} {unit})' for row in rows), _NAMED)


def _truth(known: EvaluatedImages, effect: CalibrationEffect) -> str:
    right = known.predicted == known.labels
    surplus = 100 * (torch.from_numpy(known.confidence).double() - torch.from_numpy(right).double())
    low, high = mean_interval(surplus)
    says, is_right = (_percent(100 * float(one.mean())) for one in (known.confidence, right))
    said = f'It says {says} on average, and is right on {is_right}'
    by = f'{abs(float(surplus.mean())):.1f} points'
    if low > 0:
        said += f': too sure by {by} [{low:.1f}, {high:.1f}].'
    elif high < 0:
        said += f': not sure enough by {by} [{-high:.1f}, {-low:.1f}].'
    elif low <= 0 <= high:
        said += ': on average true, as far as these images tell.'
    else:  # no interval
        said += ': too few images to tell.'
    if effect.kind != 'applied':
        said += ' The model is not calibrated.'
    elif effect.overlap:
        said += ' It was calibrated on some of these very images, which makes it look better.'
    return said


def _rejecting(effect: CalibrationEffect, prices: Sequence[Mapping[str, Any]], images: int) -> str:
    if effect.threshold is not None:
        found, risk = effect.threshold, 100 * effect.threshold['risk']
        said = f'By the threshold of its calibration {_share(found["answered"])} of the images are answered'
        if not found['images']:
            return f'{said}.'
        wrong = found['errors']
        holds = (
            'more than that' if 100 * wrong['low'] > risk else 'less than that' if 100 * wrong['high'] <= risk
            else 'which agrees with that, as far as these images tell'
        )  # fmt: skip
        return f'{said}. It promises at most {risk:g} % wrong answers; here it is {_share(wrong)}: {holds}.'
    price = next(row for row in prices if row['risk'] == effect.risk)
    said = f'No threshold keeps the wrong answers at {100 * price["risk"]:g} % of these images'
    if images < fewest_units():  # that all of one or two are right says nothing of a share
        said = 'Too few images to tell'
    elif price['threshold'] is not None:
        ends = f'{price["error_low"]:.1f}, {price["error_high"]:.1f}'
        rejected = (
            f'reject {100 - price["answered"]:.1f} % of these images, those with a probability below '
            f'{_chance(price)} %; of the rest' if price['answered'] < 100 else 'none has to be rejected: of all'
        )  # fmt: skip
        said = (
            f'To have at most {100 * price["risk"]:g} % wrong answers, {rejected} {price["error"]:.1f} % [{ends}] '
            'are wrong'
        )
    return f'{said}. A threshold for other images, with a promise, is found by hybridcls calibrate --risk.'


def _noticing(
    unknown: EvaluatedImages, rejection: Sequence[Mapping[str, Any]], threshold: Optional[float]
) -> str:  # fmt: skip
    best = rejection[0]
    least = best['auroc'] if best['low'] is None else best['low']
    notices = 'Hardly' if least <= 50 or best['fpr95'] > 80 else 'In part' if best['fpr95'] > 20 else 'Mostly'
    said = (
        f'{notices}: where 95 % of the known images are accepted, so are {_percent(best["fpr95"])} of these '
        f'{len(unknown)} (by {best["score"].replace("_", " ")}, the best of {len(rejection)} scores).'
    )
    if threshold is not None:
        answered = 100 * float((unknown.confidence.astype(np.float64) >= threshold).mean())
        said += f' The threshold of the calibration answers {_percent(answered)} of them, all wrongly.'
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
