"""Put a prediction into words, for a page or a terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

__all__ = ['Described', 'ShownAnswer', 'percent', 'shown_answer']

UNKNOWN = 'unknown'
_MEANINGS = {
    'total': 'nats: the entropy of the prediction',
    'aleatoric': 'nats: from images that are ambiguous themselves',
    'epistemic': 'nats: from what the model has not learned',
    'vacuity': 'from 0 to 1: the share of evidence that is missing',
}
_NO_UNCERTAINTY = ('class', 'probability', 'top', 'answered', 'prediction_set', 'embedding', 'heads', 'path')
_FEW = 8


@dataclass(frozen=True)
class Described:
    """The properties of a model that explain its predictions: classes, thresholds, calibration.

    Args:
        classes (Sequence[str]): Names by number; empty if the model only embeds images.
        multi_label (bool): Whether an image may have several classes, or none.
        class_thresholds (Sequence[float], optional): From which probability on an image has a class, by number; with
            several labels.
        calibration (Mapping, optional): The content of a calibration file.
    """

    classes: Sequence[str]
    multi_label: bool = False
    class_thresholds: Optional[Sequence[float]] = None
    calibration: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class ShownAnswer:
    """A prediction in words.

    Args:
        title (str): The answer in a word: a class, several, ``'unknown'``, ``'none of the classes'``.
        is_unknown (bool): Whether the model declines to answer.
        why (str): Sentences: why it is this answer.
        classes (tuple[tuple[str, float, bool], ...]): Name and probability of the most probable classes, the best
            first, and whether the class is answered.
        others (tuple[int, float], optional): How many classes are not shown, and the sum of their probabilities.
        others_are_most (bool): Whether it is the largest of them instead: with several labels they have no sum.
        uncertainties (tuple[tuple[str, float, str], ...]): Name, value and meaning.
        prediction_set (tuple[str, ...], optional): The classes that hold the right one.
        set_why (str): A sentence: with which probability.
        heads (tuple[tuple[str, ShownAnswer], ...]): The other heads, by name.
    """

    title: str
    is_unknown: bool
    why: str
    classes: tuple[tuple[str, float, bool], ...] = ()
    others: Optional[tuple[int, float]] = None
    others_are_most: bool = False
    uncertainties: tuple[tuple[str, float, str], ...] = ()
    prediction_set: Optional[tuple[str, ...]] = None
    set_why: str = ''
    heads: tuple[tuple[str, 'ShownAnswer'], ...] = ()


def shown_answer(answer: Mapping[str, Any], of: Described, top_k: int = 5) -> ShownAnswer:
    """Put a prediction into words.

    Args:
        answer (Mapping): As the runtime of an artifact gives it: ``class``, ``probability``, ``top`` (of all classes,
            so that what is not shown can be counted), ``answered``, ``prediction_set``, uncertainties by name,
            ``heads``.
        of (Described): The model.
        top_k (int): How many classes are shown. Defaults to 5.
    """
    uncertainties = tuple(
        (name, float(value), _MEANINGS.get(name, ''))
        for name, value in answer.items()
        if name not in _NO_UNCERTAINTY and isinstance(value, (int, float)) and not isinstance(value, bool)
    )
    if answer.get('probability') is None:
        return ShownAnswer(
            'an embedding', False, 'The model has no classes: it tells which images are alike.',
            uncertainties=uncertainties,
        )  # fmt: skip
    top = [(str(name), float(score)) for name, score in answer['top']]
    chosen = _chosen(answer, top, of)
    if not uncertainties and len(top) > 1 and not of.multi_label:
        entropy = -math.fsum(score * math.log(score) for _, score in top if score > 0)
        meaning = f'nats, of {math.log(len(top)):.2f} at most: the entropy of the probabilities'
        uncertainties = (('entropy', max(0.0, entropy), meaning),)
    rest = [score for _, score in top[top_k:]]
    others = (len(rest), max(rest) if of.multi_label else min(1.0, math.fsum(rest))) if rest else None
    is_unknown = answer.get('answered') is False
    found = answer.get('prediction_set')
    heads = tuple(
        (
            name,
            shown_answer(said, Described(_names_in(said), isinstance(said.get('class'), str) and '|' in said['class'])),
        )
        for name, said in (answer.get('heads') or {}).items()
    )
    return ShownAnswer(
        title=_title(chosen, is_unknown, of),
        is_unknown=is_unknown,
        why=_why(answer, top, chosen, of),
        classes=tuple((name, score, name in chosen) for name, score in top[:top_k]),
        others=others,
        others_are_most=of.multi_label,
        uncertainties=uncertainties,
        prediction_set=None if found is None else tuple(found),
        set_why=_set_why(of.calibration),
        heads=heads,
    )


def percent(share: float) -> str:
    """Format a share in percent, which rounds to 100 % or 0 % only if it is exact.

    Example:
        >>> percent(0.5), percent(1.0), percent(0.99999), percent(0.0), percent(0.00001)
        ('50.0 %', '100 %', '> 99.9 %', '0 %', '< 0.1 %')
    """
    if share in (0, 1):
        return f'{100 * share:g} %'
    if share < 0.0005:
        return '< 0.1 %'
    if share >= 0.9995:
        return '> 99.9 %'
    return f'{100 * share:.1f} %'


def _names_in(said: Mapping[str, Any]) -> Sequence[str]:
    return [str(name) for name, _ in said.get('top') or ()]


def _chosen(answer: Mapping[str, Any], top: Sequence[tuple[str, float]], of: Described) -> list[str]:
    """Return the predicted classes, the most probable first."""
    if answer.get('answered') is False:
        return []
    if not of.multi_label:
        return [top[0][0]]
    thresholds = dict(zip(of.classes, of.class_thresholds or [0.5] * len(of.classes), strict=True))
    return [name for name, score in top if score >= thresholds.get(name, 0.5)]


def _title(chosen: Sequence[str], is_unknown: bool, of: Described) -> str:
    if is_unknown:
        return UNKNOWN
    if not chosen:
        return 'none of the classes'
    more = f' and {len(chosen) - _FEW} more' if len(chosen) > _FEW else ''
    return ', '.join(chosen[:_FEW]) + more


def _why(answer: Mapping[str, Any], top: Sequence[tuple[str, float]], chosen: Sequence[str], of: Described) -> str:
    best, probability = top[0]
    risk = (of.calibration or {}).get('risk')
    if risk is not None and answer.get('answered') is not None:
        threshold, error, confidence = risk['threshold'], risk['risk'], risk['confidence']
        bound = (
            f'at most {_level(error)} of such answers are wrong (with confidence {_level(confidence)}, for images like '
            'those of the calibration)'
        )
        if answer['answered']:
            return f'Its probability, {percent(probability)}, is not below the threshold {percent(threshold)}: {bound}.'
        return (
            f'The most probable class, {best}, has {percent(probability)}, which is below the threshold '
            f'{percent(threshold)}. The model only answers from there on: {bound}.'
        )
    if of.multi_label:
        low, high = (min(of.class_thresholds), max(of.class_thresholds)) if of.class_thresholds else (0.5, 0.5)
        from_ = percent(low) if low == high else f'{percent(low)} to {percent(high)}, by class'
        if chosen:
            return f'These classes are at or above their thresholds ({from_}). An image may have several.'
        return f'No class is at or above its threshold ({from_}).'
    if len(of.classes) == 1:
        return 'The model knows this one class, so every image is of it: this tells nothing.'
    return (
        f'It is the most probable class, with {percent(probability)}. There is no threshold, so the model answers for '
        'every image, also for those of no class; hybridcls calibrate --risk makes one.'
    )


def _set_why(calibration: Optional[Mapping[str, Any]]) -> str:
    sets = (calibration or {}).get('sets')
    if sets is None:
        return ''
    level = _level(1 - sets['alpha'])
    return f'The right class is among these with a probability of {level}, for images like those of the calibration.'


def _level(share: float) -> str:
    return f'{100 * share:.4g} %'
