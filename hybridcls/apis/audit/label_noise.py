"""How likely each label is wrong: evidence about the classes, calibrated, and labels that change on the way."""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

__all__ = ['wrong_label_probabilities']

_ITERATIONS = 40
_LIKE_ALL = 5.0  # images of each class that are taken to be mislabelled as those of all classes are
_RIDGE = 5.0  # on the offsets of the classes
_START = 0.05  # of the labels wrong
_MOST_NUMBERS = 2 * 10**7  # images times classes that the estimate is fitted to: seconds


def wrong_label_probabilities(evidence: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    r"""Estimate for each image how likely its label is wrong.

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
        evidence (Sequence[np.ndarray]): Logarithms of probabilities of the classes, each (N, C), that have not seen the
            label of their image; rows of NaN say nothing.
        labels (np.ndarray): Class numbers, int64 (N,).

    Returns:
        np.ndarray: float64 (N,); 0 for an image of which no evidence is known.

    Example:
        >>> sure = np.log(np.where(np.eye(2)[[0] * 20 + [1] * 20] > 0, 0.99, 0.01))
        >>> wrong_label_probabilities([sure], np.array([0] * 20 + [1] * 19 + [0])).round()[-2:]
        array([0., 1.])
    """
    known = np.any([np.isfinite(values).all(1) for values in evidence], axis=0)
    probability = np.zeros(len(labels))
    if not known.any():
        return probability
    centred = np.stack([values[known] - values[known].mean(1, keepdims=True) for values in evidence]).astype(np.float64)
    centred = np.where(np.isfinite(centred), centred, 0.0)
    targets, num_classes = labels[known], centred.shape[2]
    most = max(1, _MOST_NUMBERS // num_classes)
    chosen = (
        np.random.default_rng(0).permutation(len(targets))[:most] if len(targets) > most else np.arange(len(targets))
    )
    weights, offsets, transition = _fit(centred[:, chosen], targets[chosen])
    joint = softmax(np.tensordot(weights, centred, 1) + offsets, axis=1) * transition[:, targets].T
    probability[known] = 1 - joint[np.arange(len(targets)), targets] / joint.sum(1)
    return probability


def _fit(evidence: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (S,), offsets (C,) and T (C, C) for evidence (S, N, C)."""
    signals, images, count = evidence.shape
    weights, offsets, wrong = np.full(signals, 1.5 / signals), np.zeros(count), _START
    transition = _prior(wrong, count)
    for _ in range(_ITERATIONS):
        classes = softmax(np.tensordot(weights, evidence, 1) + offsets, axis=1)
        posterior = classes * transition[:, labels].T
        posterior /= posterior.sum(1, keepdims=True)
        counts = np.zeros((count, count))
        np.add.at(counts.T, labels, posterior)
        wrong = min(max(1 - np.trace(counts) / images, 1e-6), 1 - 1e-6)
        transition = counts + _LIKE_ALL * _prior(wrong, count)
        transition /= transition.sum(1, keepdims=True)
        # One Newton step of the weights, and one of each offset alone.
        missing = posterior - classes
        means = np.einsum('snc,nc->sn', evidence, classes)
        hessian = np.einsum('snc,tnc,nc->st', evidence, evidence, classes) - means @ means.T + 1e-2 * np.eye(signals)
        step = np.linalg.solve(hessian, np.einsum('snc,nc->s', evidence, missing))
        weights = np.maximum(weights + step / max(1.0, np.abs(step).max()), 0)
        offsets += 0.7 * (missing.sum(0) - _RIDGE * offsets) / ((classes * (1 - classes)).sum(0) + _RIDGE)
    return weights, offsets, transition


def _prior(wrong: float, count: int) -> np.ndarray:
    """Return T where a share of each class is labelled as any other."""
    prior = np.full((count, count), wrong / (count - 1))
    np.fill_diagonal(prior, 1 - wrong)
    return prior
