"""Cross-validated class probabilities of images, from a classifier on the embeddings of the trained model."""

from typing import Optional

import numpy as np
import torch

from hybridcls.functional import l2_normalize
from hybridcls.functional.logistic_regression import fit_logistic_regression

__all__ = ['cross_validated_scores']

_FOLDS = 5
_MOST_NUMBERS = 10**9  # embeddings times classes: some minutes on two processors


def cross_validated_scores(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, groups: Optional[np.ndarray] = None
) -> np.ndarray:
    """Return out-of-fold probabilities of a logistic regression on embeddings.

    The folds are stratified and follow from the labels alone. The embeddings have seen the labels in training; the
    regression has not, so that a label which the model has learned by heart still stands out.

    Args:
        embeddings (np.ndarray): Of any norm, (N, D).
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        groups (np.ndarray, optional): Numbers, (N,), equal for images that show the same: they are in one fold, so
            that no copy confirms the label of another. Defaults to None: there are no copies.

    Returns:
        np.ndarray: float32 (N, C). NaN for the only image of a class, which no other image speaks for, and for all
        where N x D x C is above a billion.
    """
    if embeddings.size * num_classes > _MOST_NUMBERS or len(labels) < 2:
        return np.broadcast_to(np.float32(np.nan), (len(labels), num_classes))  # takes no memory
    scores = np.full((len(labels), num_classes), np.nan, np.float32)
    features = l2_normalize(torch.from_numpy(embeddings).float())[0]
    targets = torch.from_numpy(labels)
    _, first, group = np.unique(np.arange(len(labels)) if groups is None else groups, True, True)
    # Group i of a class, by the label of its first image, is in fold i: classes of two groups are in two folds.
    chosen = labels[first]
    shuffled = np.random.default_rng(0).permutation(len(first))
    order = shuffled[np.argsort(chosen[shuffled], kind='stable')]
    starts = np.concatenate([[0], np.bincount(chosen, minlength=num_classes).cumsum()[:-1]])
    fold = np.empty(len(first), np.int64)
    fold[order] = (np.arange(len(first)) - starts[chosen[order]]) % _FOLDS
    fold = fold[group]
    penalty = None
    for number in range(_FOLDS):
        others = np.flatnonzero(fold != number)
        inside = np.flatnonzero((fold == number) & np.isin(labels, labels[others]))
        if not len(inside):
            continue
        fit = fit_logistic_regression(features[others], targets[others], num_classes, penalty)
        penalty = fit.inverse_penalty
        logits = features[inside].double() @ fit.weight.T + fit.bias
        scores[inside] = logits.softmax(1).float().numpy()
    return scores
