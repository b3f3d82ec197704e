"""Rank images by how likely their labels are wrong, from the training's record and from their neighbours."""

from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from hybridcls.checks import is_or_are
from hybridcls.structures.sample_record import SampleRecord

from .label_noise import wrong_label_probabilities

__all__ = ['Suspects', 'find_suspects']

_TRUSTED, _DOUBTED = 0.25, 0.4  # of the labels contradicted without need, where the list gets strict
_CLASSES = 100  # that the estimate looks at one by one; of more, at 99 and the rest
_AT_ONCE = 10**7  # images times classes: 40 MB a signal
_FLOOR = 0.05  # added to probabilities before their logarithm: a twentieth, as of 20 neighbours none


@dataclass
class Suspects:
    """All N images, ranked by suspicion.

    Args:
        order (np.ndarray): Rows, the most suspect first, (N,).
        score (np.ndarray): In [0, 1], high where the signals contradict the label, float64 (N,).
        probability (np.ndarray): That the label is wrong, (N,), as :func:`find_suspects` estimates it.
        suggested (np.ndarray): The class that the evidence is for, int64 (N,).
        margins (dict[str, np.ndarray]): What the score is the mean of, by signal: the probability of the label minus
            the largest other one, (N,), in [-1, 1]; NaN where a signal says nothing.
        signals (dict[str, np.ndarray]): Other numbers of each image, (N,).
        expected (float): How many labels are wrong, as estimated: the sum of the probabilities.
        listed (int): So many of the first in ``order`` are suspects: those that are rather wrong than right.
        contradicted (float): Which share of the labels the first signal that says something of them contradicts.
        strictness (float): In [0, 1], high where the model, rather than the labels, may be at fault.
        listed_unstrictly (int): How many would be suspects at 0.
    """

    order: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    suggested: np.ndarray
    margins: dict[str, np.ndarray]
    signals: dict[str, np.ndarray]
    expected: float
    listed: int
    contradicted: float = 0.0
    strictness: float = 0.0
    listed_unstrictly: int = 0

    @property
    def caution(self) -> Optional[str]:
        """A warning where so many labels are contradicted that the model may be wrong instead."""
        if not self.strictness:
            return None
        act = ', and do not act on the list of suspects before' if self.strictness == 1 else ''
        return (
            f'The model contradicts {100 * self.contradicted:.0f} % of the labels. Unless you expect so many wrong '
            f'ones, it has learned too little to judge them all: {self.listed} {is_or_are(self.listed)} listed instead '
            f'of {self.listed_unstrictly}. Train it longer, larger or from pretrained weights first{act}.'
        )

    def against(self, row: int) -> list[str]:
        """Return the names of the signals that prefer another class to the label."""
        return [name for name, values in self.margins.items() if values[row] < 0]


def find_suspects(
    labels: np.ndarray,
    num_classes: int,
    scores: dict[str, np.ndarray],
    record: Optional[SampleRecord] = None,
    fitted: Optional[np.ndarray] = None,
) -> Suspects:
    """Rank the images by the evidence against their labels, and estimate which labels are wrong.

    Each signal is a margin: the probability of the label minus that of its strongest rival, in [-1, 1]. ``training`` is
    its mean over the recorded epochs: the area under the margin of `Pleiss et al. (2020)
    <https://arxiv.org/abs/2001.10528>`_, of probabilities instead of logits, so that no image counts for many. The
    score is the mean of the signals, from 1 (all say another class) to 0.

    How many labels are wrong is estimated by :func:`wrong_label_probabilities` from ``scores``, which have not seen the
    labels; the order is that of the same estimate from the mean of all signals, the training among them, which has seen
    them and finds fewer, but more surely. The n-th in this order gets the n-th largest of the probabilities.

    Of more than 100 classes the estimate looks at the 99 that most speaks for, the label among them, and at all others
    together: memory and time grow with the images, not with the square of the classes.

    A model that has learned too little contradicts right labels: hard images are not told from wrong labels. So there
    is a second, strict estimate, from all signals and the trained model itself, which halves the probability of a label
    for which these, two at least, do not name one same other class. From 25 to 40 % of labels that are contradicted
    although the strict estimate does not take them for wrong, the strictness s rises from 0 to 1. Above any probability
    there are ``(1 - s)`` times as many labels as by the first estimate, and s times as many as by the strict one.

    Args:
        labels (np.ndarray): Class numbers, int64 (N,).
        num_classes (int): C, 2 or more.
        scores (dict[str, np.ndarray]): By signal, probabilities or shares of the classes, (N, C); rows of NaN say
            nothing.
        record (SampleRecord, optional): Of the training. Defaults to None.
        fitted (np.ndarray, optional): Probabilities of the trained model, (N, C). Defaults to None.

    Raises:
        ValueError: If there is one class, or no signal.
    """
    if num_classes < 2 or not (scores or record):
        raise ValueError(f'find_suspects: expected 2 classes or more and a signal, got {num_classes} and {[*scores]}.')
    evidence = _evidence(labels, num_classes, scores, record, fitted)
    margins, signals = {}, {}
    if record is not None:
        margins['training'] = _mean(record.probability - _rival(record))
        signals = _more_signals(record, num_classes)
    margins.update(zip(scores, evidence.margins, strict=True))
    names = list(scores) + ([] if record is None else ['training'])
    named = evidence.named[0]
    for others in evidence.named[1 : len(names)]:  # where the first is silent, the next
        named = np.where(named < 0, others, named)
    known = named >= 0
    contradicted = float((named != labels)[known].mean()) if known.any() else 0.0

    def estimate(logs: np.ndarray) -> np.ndarray:
        return wrong_label_probabilities([*logs], labels, evidence.classes, num_classes)

    best = estimate(_mean(evidence.logs[: len(names)])[None])
    blind = estimate(evidence.logs[: len(scores)]) if scores else best
    strictness, listed_unstrictly = 0.0, int((blind > 0.5).sum())
    if contradicted > _TRUSTED:  # what is contradicted without need is not more
        strict = estimate(_mean(evidence.logs)[None])
        first, says = evidence.named.max(0), evidence.named >= 0
        agree = ((evidence.named == first) | ~says).all(0) & (says.sum(0) > 1) & (first != labels)
        strict[~agree] /= 2
        strictness = float(np.clip((contradicted - (strict > 0.5).mean() - _TRUSTED) / (_DOUBTED - _TRUSTED), 0, 1))
        best = (1 - strictness) * best + strictness * strict
        blind = _between(blind, strict, strictness)
    order = np.lexsort((-_score(margins), -best))
    probability = np.empty(len(labels))
    probability[order] = -np.sort(-blind)
    return Suspects(
        order=order,
        score=_score(margins),
        probability=probability,
        suggested=evidence.suggested,
        margins=margins,
        signals=signals,
        expected=float(probability.sum()),
        listed=int((probability > 0.5).sum()),
        contradicted=contradicted,
        strictness=strictness,
        listed_unstrictly=listed_unstrictly,
    )


def _between(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Return a mixture of two samples: above any level lie ``1 - share`` of the first and ``share`` of the second."""
    values = np.concatenate([one, other])
    order = np.argsort(-values, kind='stable')
    weights = np.repeat([1 - share, share], [len(one), len(other)])[order].cumsum()
    return values[order][np.searchsorted(weights, np.arange(len(one)) + 0.5).clip(max=len(values) - 1)]


def _score(margins: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mean of the known signals, scaled so that 1 is most suspect; 0 where no signal is known."""
    stacked = np.stack(list(margins.values())).astype(np.float64)
    known = np.isfinite(stacked)
    sums = np.where(known, stacked, 0).sum(0)
    return np.where(known.any(0), (1 - sums / np.maximum(known.sum(0), 1)) / 2, 0.0)


class _Evidence(NamedTuple):
    """The evidence of S signals (scores, record, trained model, in this order) for N images.

    Args:
        classes (np.ndarray): The K classes of each image that most speaks for, its label among them, int32 (N, K); of
            more than 100 classes the last of the K is C, all others.
        logs (np.ndarray): Logarithms of their probabilities, float32 (S, N, K).
        named (np.ndarray): The class that each signal is for, int64 (S, N); -1 where it says nothing.
        suggested (np.ndarray): The class, other than the label, that scores and record together are for, int64 (N,).
        margins (np.ndarray): Of each of the scores, float32 (number of scores, N).
    """

    classes: np.ndarray
    logs: np.ndarray
    named: np.ndarray
    suggested: np.ndarray
    margins: np.ndarray


def _evidence(
    labels: np.ndarray,
    num_classes: int,
    scores: dict[str, np.ndarray],
    record: Optional[SampleRecord],
    fitted: Optional[np.ndarray],
) -> _Evidence:
    """Collect the evidence, in chunks of images whose classes fit into memory."""
    others = len(scores) + (record is not None)
    chosen_few = num_classes > _CLASSES
    width = _CLASSES if chosen_few else num_classes
    count = others + (fitted is not None)
    found = _Evidence(
        np.empty((len(labels), width), np.int32),
        np.empty((count, len(labels), width), np.float32),
        np.empty((count, len(labels)), np.int64),
        np.empty(len(labels), np.int64),
        np.empty((len(scores), len(labels)), np.float32),
    )
    step = max(1, _AT_ONCE // num_classes)
    for start in range(0, len(labels), step):
        part = slice(start, start + step)
        rows = np.arange(start, min(start + step, len(labels)))
        values = [one[part] for one in scores.values()]
        values += [] if record is None else [_mean_probabilities(record.part(rows), num_classes)]
        values += [] if fitted is None else [fitted[part]]
        each = np.stack(values).astype(np.float32)
        found.named[:, part] = np.where(np.isfinite(each).all(2), each.argmax(2), -1)
        place, label = rows - start, labels[part]
        rivals = each[: len(scores)].copy()
        rivals[:, place, label] = -1
        found.margins[:, part] = each[: len(scores), place, label] - rivals.max(2)
        total = np.nansum(each[:others], 0)
        total[place, label] = -1
        found.suggested[part] = total.argmax(1)
        total = np.nansum(each, 0)
        total[place, label] = np.inf
        chosen = np.broadcast_to(np.arange(num_classes), total.shape)
        if chosen_few:
            chosen = total.argpartition(num_classes - width + 1, axis=1)[:, 1 - width :]
        logs = np.log(np.take_along_axis(each, chosen[None], 2) + _FLOOR)
        if chosen_few:  # and all others together
            np.log(each + _FLOOR, out=each)
            mean = (each.sum(2) - logs.sum(2)) / (num_classes - width + 1)
            logs = np.concatenate([logs, mean[..., None]], 2)
            chosen = np.concatenate([chosen, np.full((len(rows), 1), num_classes)], 1)
        found.classes[part], found.logs[:, part] = chosen, logs
    return found


def _rival(record: SampleRecord) -> np.ndarray:
    """Return the probability of the strongest class other than the label, (E, N)."""
    return np.exp(-record.loss.astype(np.float32) - record.margin.astype(np.float32))


def _mean_probabilities(record: SampleRecord, num_classes: int) -> np.ndarray:
    """Return the mean probabilities over the epochs, (N, C): of label and rival; the rest is spread evenly."""
    own, rival = record.probability, _rival(record)
    rest = np.maximum(1 - own - rival, 0) / max(1, num_classes - 2)
    known = np.isfinite(own) & (record.other >= 0)
    rows = np.arange(len(record))
    sums = np.repeat(np.where(known, rest, 0).sum(0)[:, None], num_classes, 1)
    sums[rows, record.labels] = np.where(known, own, 0).sum(0)
    for seen, other, share in zip(known, record.other, rival - rest, strict=True):
        sums[rows[seen], other[seen]] += share[seen]
    with np.errstate(invalid='ignore'):
        return sums / np.where(known.any(0), known.sum(0), np.nan)[:, None]


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    sums = np.where(known, values, 0).sum(0)
    return np.where(known.any(0), sums / np.maximum(known.sum(0), 1), np.nan)


def _more_signals(record: SampleRecord, num_classes: int) -> dict[str, np.ndarray]:
    """Return further signals for the page and the table, beside the margins."""
    signals = {
        'area_under_margin': record.means['margin'],
        'loss': record.means['loss'],
        'epochs_right': record.means['right'],
        'variability': np.where(np.isfinite(record.loss), record.probability, 0).std(0),
    }
    if record.vacuity is not None:
        signals['vacuity'] = _mean(record.vacuity.astype(np.float32))
    if record.subcenter is not None:
        last = record.subcenter[-1].astype(np.int64)
        count = int(last.max()) + 1
        votes = np.zeros((num_classes, max(1, count)))
        seen = last >= 0
        np.add.at(votes, (record.labels[seen], last[seen]), 1)
        signals['other_subcenter'] = np.where(seen, last != votes.argmax(1)[record.labels], 0).astype(np.float64)
    return signals
