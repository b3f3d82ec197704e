"""Leave-one-out votes of each image's nearest neighbours for its label."""

from typing import Optional

import numpy as np
import torch

from hybridcls.functional.metrics import nearest_neighbours

__all__ = ['neighbour_votes']

_MOST_COPIES = 100  # of an image, that are looked past
_MOST = 100_000  # images: some minutes on two processors
_MOST_NUMBERS = 3 * 10**8  # images times classes: 1.2 GB, three times


def neighbour_votes(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, k: int = 20, groups: Optional[np.ndarray] = None
) -> np.ndarray:
    """Return the share of each class among the k nearest other images, by cosine.

    Args:
        embeddings (np.ndarray): Of any norm, (N, D).
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        k (int): Neighbours; fewer in small classes: as many as the median class has others. Defaults to 20.
        groups (np.ndarray, optional): Numbers, (N,), equal for images that show the same, which do not vote for each
            other. Defaults to None: there are no copies.

    Returns:
        np.ndarray: float32 (N, C). NaN for the only image of a class, copies apart, and for all of more than 100,000
        images, or where N x C is above 300 million.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
        >>> neighbour_votes(embeddings, np.array([0, 1, 1, 0]), 2, k=1)
        array([[0., 1.],
               [1., 0.],
               [1., 0.],
               [0., 1.]], dtype=float32)
    """
    counts = np.bincount(labels, minlength=num_classes)
    k = int(min(k, len(labels) - 1, max(1, np.median(counts[counts > 0]) - 1)))
    if k < 1 or len(labels) > _MOST or len(labels) * num_classes > _MOST_NUMBERS:
        return np.broadcast_to(np.float32(np.nan), (len(labels), num_classes))  # takes no memory
    _, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    wanted = min(k + min(int(np.bincount(group).max()) - 1, _MOST_COPIES), len(labels) - 1)
    nearest = nearest_neighbours(torch.from_numpy(np.asarray(embeddings, np.float32)), None, wanted)[1].numpy()
    others = group[nearest] != group[:, None]
    others &= others.cumsum(1) <= k
    votes = np.zeros((len(labels), num_classes), np.float32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[nearest]), others.astype(np.float32))
    groups_of = np.bincount(np.unique(np.stack([group, labels]), axis=1)[1], minlength=num_classes)
    number = np.where(groups_of[labels] > 1, others.sum(1), 0)[:, None]
    return np.where(number > 0, votes / np.maximum(number, 1), np.float32(np.nan)).astype(np.float32)
