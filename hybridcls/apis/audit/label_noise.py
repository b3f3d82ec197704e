"""Estimate the probability that each label is wrong, by calibrated evidence and a model of label noise."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from scipy.special import softmax

__all__ = ['wrong_label_probabilities']

_ITERATIONS = 40
_LIKE_ALL = 5.0  # images of each class that are taken to be mislabelled as those of all classes are
_RIDGE = 5.0  # on the offsets of the classes
_START = 0.05  # of the labels wrong
_MOST_NUMBERS = 4 * 10**6  # images times their classes that the estimate is fitted to: seconds
_AT_ONCE = 10**4  # images that the estimate is applied to, at once


def wrong_label_probabilities(
    evidence: Sequence[np.ndarray],
    labels: np.ndarray,
    classes: Optional[np.ndarray] = None,
    num_classes: Optional[int] = None,
) -> np.ndarray:
    r"""Estimate for each image the probability that its label is wrong.

    Two things make a label disagree with the evidence :math:`z`: a hard image, and a wrong label. Hard images disagree
    where the evidence is weak, wrong labels wherever it is: so they are told apart.

    .. math::
        P(label = j \mid x) = \sum_i P(class = i \mid x) \, T_{ij}, \qquad
        P(class \mid x) = \operatorname{softmax}\bigl(\textstyle\sum_s \beta_s z_s(x) + b\bigr)

    T, the share of each class i that is labelled j, the weights :math:`\beta_s \ge 0` and the offsets b are fitted to
    the labels by 40 steps of EM; a Dirichlet prior draws each class of T to the mean of all, a ridge b to 0.
    :math:`P(class \ne j \mid x, label = j)` follows by Bayes. T is that of `Patrini et al. (2017)
    <https://arxiv.org/abs/1609.03683>`_; here it is estimated with a calibration instead of from the surest images.

    It is an estimate: in which images a class looks like another one cannot be known from the labels alone, and where
    the tails of the evidence are not those of a softmax, hard images count as wrong labels or the reverse.

    Args:
        evidence (Sequence[np.ndarray]): Logarithms of probabilities of K classes, each (N, K), that have not seen the
            label of their image; rows of NaN say nothing.
        labels (np.ndarray): Class numbers, int64 (N,).
        classes (np.ndarray, optional): Which K of the classes an image can be of, its label among them: int (N, K), K
            different numbers in each row, of which C stands for all classes that are not in the row, with their mean
            evidence. Defaults to None: all classes, 0 to K - 1. T is kept for the pairs of a class and a label that
            occur in an image: time and memory grow with N times K, and not with C times C.
        num_classes (int, optional): C. Defaults to None: K.

    Returns:
        np.ndarray: float64 (N,); 0 for an image of which no evidence is known.

    Example:
        >>> sure = np.log(np.where(np.eye(2)[[0] * 20 + [1] * 20] > 0, 0.99, 0.01))
        >>> wrong_label_probabilities([sure], np.array([0] * 20 + [1] * 19 + [0])).round()[-2:]
        array([0., 1.])
    """
    width = evidence[0].shape[1]
    says = np.stack([np.isfinite(values).all(1) for values in evidence])
    evidence = [values for values, rows in zip(evidence, says, strict=True) if rows.any()]  # no weight for silence
    known = says.any(0)
    probability = np.zeros(len(labels))
    rows = np.flatnonzero(known)
    if not len(rows):
        return probability
    count = num_classes or width
    left = 0 if classes is None else count - (classes[0] < count).sum()  # that stand together

    def part(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centred = np.stack([values[rows] - values[rows].mean(1, keepdims=True) for values in evidence])
        own = np.broadcast_to(np.arange(width), (len(rows), width)) if classes is None else classes[rows]
        return np.where(np.isfinite(centred), centred, 0.0).astype(np.float64), own.astype(np.int64), labels[rows]

    most = max(1, _MOST_NUMBERS // width)
    chosen = np.random.default_rng(0).permutation(len(rows))[:most] if len(rows) > most else np.arange(len(rows))
    weights, offsets, transition = _fit(*part(rows[chosen]), count, np.log(left or 1))
    for start in range(0, len(rows), _AT_ONCE):
        here = rows[start : start + _AT_ONCE]
        values, own, targets = part(here)
        joint = softmax(np.tensordot(weights, values, 1) + offsets[own], axis=1) * transition.of(own, targets)
        label = own == targets[:, None]
        probability[here] = 1 - joint[label] / joint.sum(1)
    return probability


class _Transition:
    """The noise transition T: shares of (class, label) pairs that occur in the data, and a prior for all others."""

    def __init__(self, classes: np.ndarray, labels: np.ndarray, count: int) -> None:
        self.count = count
        self.keys, pairs = np.unique(self._keys(classes, labels), return_inverse=True)
        self.pairs = pairs.reshape(classes.shape)
        self.classes, targets = np.divmod(self.keys, count)
        self.is_label = self.classes == targets
        self.update(np.zeros(len(self.keys)), _START)

    def _keys(self, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return classes * self.count + labels[:, None]  # classes to C, labels to C - 1

    def update(self, counts: np.ndarray, wrong: float) -> None:
        """Update T from counts of the pairs and the share of wrong labels, which sets each class's prior."""
        self.wrong = wrong
        # The classes that stand together have the prior alone: their labels are seen only where they are wrong.
        counts = np.where(self.classes < self.count, counts, 0)
        self.totals = np.bincount(self.classes, counts, self.count + 1) + _LIKE_ALL
        self.shares = (counts + _LIKE_ALL * self._prior(self.is_label)) / self.totals[self.classes]

    def _prior(self, is_label: np.ndarray) -> np.ndarray:
        return np.where(is_label, 1 - self.wrong, self.wrong / (self.count - 1))

    def of(self, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return T for the classes (N, K) and the label (N,) of each row."""
        keys = self._keys(classes, labels)
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        other = _LIKE_ALL * self._prior(classes == labels[:, None]) / self.totals[classes]
        return np.where(self.keys[place] == keys, self.shares[place], other)


def _fit(
    evidence: np.ndarray, classes: np.ndarray, labels: np.ndarray, count: int, several: float
) -> tuple[np.ndarray, np.ndarray, _Transition]:
    """Return weights (S,), offsets (C + 1,) and T for evidence (S, N, K) of classes (N, K)."""
    signals, images, _ = evidence.shape
    weights, transition = np.full(signals, 1.5 / signals), _Transition(classes, labels, count)
    # The last offset stays: no label is among the classes that stand together, since those of labels stand alone.
    offsets = np.append(np.zeros(count), several)

    def by_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(classes.ravel(), values.ravel(), count + 1)[:count]

    for _ in range(_ITERATIONS):
        says = softmax(np.tensordot(weights, evidence, 1) + offsets[classes], axis=1)
        posterior = says * transition.shares[transition.pairs]
        posterior /= posterior.sum(1, keepdims=True)
        counts = np.bincount(transition.pairs.ravel(), posterior.ravel(), len(transition.keys))
        transition.update(counts, min(max(1 - counts[transition.is_label].sum() / images, 1e-6), 1 - 1e-6))
        # One Newton step of the weights, and one of each offset alone.
        missing = posterior - says
        weighted = evidence * says
        means = weighted.sum(2)
        hessian = np.einsum('snk,tnk->st', weighted, evidence) - means @ means.T + 1e-2 * np.eye(signals)
        step = np.linalg.solve(hessian, np.einsum('snk,nk->s', evidence, missing))
        weights = np.maximum(weights + step / max(1.0, np.abs(step).max()), 0)
        change = by_class(missing) - _RIDGE * offsets[:count]
        offsets[:count] += 0.7 * change / (by_class(says * (1 - says)) + _RIDGE)
    return weights, offsets, transition
