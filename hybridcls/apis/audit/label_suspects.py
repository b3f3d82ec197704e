"""Which labels look wrong, by what a training saw of its images and what their neighbours are labelled as."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from hybridcls.structures.sample_record import SampleRecord

__all__ = ['Suspects', 'find_suspects', 'wrong_label_probabilities']

_SHARE = 0.75  # of wrong labels that score above the point where wrong ones are counted
_MANY = 0.15  # of the labels contradicted: more than most data have wrong


@dataclass
class Suspects:
    """All N images, ranked.

    Args:
        order (np.ndarray): Rows, the most suspect first, (N,).
        score (np.ndarray): In [0, 1], high for a suspect label, float64 (N,).
        probability (np.ndarray): That the label is wrong, (N,), as :func:`wrong_label_probabilities` estimates it.
        suggested (np.ndarray): The class that the evidence is for, int64 (N,).
        margins (dict[str, np.ndarray]): What the score is the mean of, by signal: the probability of the label minus
            the largest other one, (N,), in [-1, 1]; NaN where a signal says nothing.
        signals (dict[str, np.ndarray]): Other numbers of each image, (N,).
        expected (float): How many labels are wrong at least, as estimated.
        listed (int): So many of the first in ``order`` are suspects: as many as are expected to be wrong.
    """

    order: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    suggested: np.ndarray
    margins: dict[str, np.ndarray]
    signals: dict[str, np.ndarray]
    expected: float
    listed: int

    @property
    def contradicted(self) -> float:
        """Which share of the labels the signals together contradict."""
        return float((self.score > 0.5).mean())

    @property
    def caution(self) -> Optional[str]:
        """A sentence where so many labels are contradicted that the model, rather than they, may be at fault."""
        if self.contradicted <= _MANY:
            return None
        return (
            f'The model contradicts {100 * self.contradicted:.0f} % of the labels. Unless you expect so many wrong '
            'ones, it has learned too little to judge them: train it longer, larger or from pretrained weights first, '
            'and do not act on the list of suspects before.'
        )

    def against(self, row: int) -> list[str]:
        """Name the signals that prefer another class to the label."""
        return [name for name, values in self.margins.items() if values[row] < 0]


def find_suspects(
    labels: np.ndarray,
    num_classes: int,
    scores: dict[str, np.ndarray],
    record: Optional[SampleRecord] = None,
) -> Suspects:
    """Rank the images by how much speaks against their labels.

    Each signal is a margin: the probability of the label minus that of its strongest rival, in [-1, 1]. ``training`` is
    its mean over the recorded epochs: the area under the margin of `Pleiss et al. (2020)
    <https://arxiv.org/abs/2001.10528>`_, of probabilities instead of logits, so that no image counts for many. The
    score is the mean of the signals, from 1 (all say another class) to 0.

    Args:
        labels (np.ndarray): Class numbers, int64 (N,).
        num_classes (int): C, 2 or more.
        scores (dict[str, np.ndarray]): By signal, probabilities or shares of the classes, (N, C); rows of NaN say
            nothing.
        record (SampleRecord, optional): Of the training. Defaults to None.

    Raises:
        ValueError: If there is one class, or no signal.
    """
    if num_classes < 2 or not (scores or record):
        raise ValueError(f'find_suspects: expected 2 classes or more and a signal, got {num_classes} and {[*scores]}.')
    rows = np.arange(len(labels))
    wrong_labels = (labels + np.random.default_rng(0).integers(1, num_classes, len(labels))) % num_classes
    margins, shadows, signals = {}, {}, {}
    evidence = np.zeros((len(labels), num_classes), np.float32)
    if record is not None:
        margins['training'], shadows['training'], rivals = _of_record(record)
        signals = _more_signals(record, num_classes)
        for other, share in zip(record.other, rivals, strict=True):
            np.add.at(evidence, (rows, other.clip(0)), np.nan_to_num(share) * (other >= 0) / len(rivals))
    for name, values in scores.items():
        margins[name], shadows[name] = _margin(values, labels), _margin(values, wrong_labels)
        evidence += np.nan_to_num(values)
    score, shadow = _score(margins), _score(shadows)
    probability, expected = wrong_label_probabilities(score, shadow)
    evidence[rows, labels] = -1
    return Suspects(
        order=np.argsort(-score, kind='stable'),
        score=score,
        probability=probability,
        suggested=evidence.argmax(1),
        margins=margins,
        signals=signals,
        expected=expected,
        listed=round(expected),
    )


def wrong_label_probabilities(score: np.ndarray, shadow: np.ndarray) -> tuple[np.ndarray, float]:
    """Estimate how likely each label is wrong, from what wrong labels score.

    What wrong labels score is known without one: each image is also scored as if it had a random wrong label (its
    *shadow*). A quarter of the shadows score low; of the images that score as high as the other three quarters all are
    taken for wrong, and their number over 3/4 is the estimate, as `Storey (2002)
    <https://doi.org/10.1111/1467-9868.00346>`_ counts null hypotheses. The probability of an image is that share times
    the ratio of the two densities at its score, by isotonic regression. A training that has learned a wrong label by
    heart, and wrong labels of similar classes, score lower than their shadows: the estimate is a lower bound then.

    Args:
        score (np.ndarray): Of the labels, high for suspect ones, (N,).
        shadow (np.ndarray): Of a wrong label of each image, (N,).

    Returns:
        tuple[np.ndarray, float]: Probabilities (N,), which rise with the score, and how many labels are wrong at least.

    Example:
        >>> shadow = np.linspace(0.6, 1, 100)
        >>> wrong_label_probabilities(np.linspace(0, 0.4, 100), shadow)[1]
        0.0
    """
    from sklearn.isotonic import IsotonicRegression

    share = min(1.0, float((score >= np.quantile(shadow, 1 - _SHARE)).mean()) / _SHARE)
    both = np.concatenate([score, shadow])
    is_shadow = np.repeat([0.0, 1.0], [len(score), len(shadow)])
    part = IsotonicRegression().fit(both, is_shadow).predict(score)
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.where(share > 0, share * part / (1 - part), 0.0)
    return np.minimum(ratio, 1.0), share * len(score)


def _score(margins: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mean over the signals that say something, turned so that 1 is suspect; nothing said is 0."""
    stacked = np.stack(list(margins.values())).astype(np.float64)
    known = np.isfinite(stacked)
    sums = np.where(known, stacked, 0).sum(0)
    return np.where(known.any(0), (1 - sums / np.maximum(known.sum(0), 1)) / 2, 0.0)


def _margin(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    others = values.copy()
    others[rows, labels] = -1
    return values[rows, labels] - others.max(1)


def _of_record(record: SampleRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean margin of the label and of a wrong one, (N,), and the probability of the rival, (E, N)."""
    own, rival = record.probability, np.exp(-record.loss.astype(np.float32) - record.margin.astype(np.float32))
    # The wrong label's margin is that of logits; where it leads, its rival's probability is not recorded: 0 at most.
    wrong = np.maximum(own, rival) * np.expm1(np.minimum(record.shadow.astype(np.float32), 0))
    return _mean(own - rival), _mean(wrong), rival


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    sums = np.where(known, values, 0).sum(0)
    return np.where(known.any(0), sums / np.maximum(known.sum(0), 1), np.nan)


def _more_signals(record: SampleRecord, num_classes: int) -> dict[str, np.ndarray]:
    """Return what the page and the table show beside the margins."""
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
