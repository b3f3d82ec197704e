"""What the nearest images of each image are labelled as: each left out of its own vote."""

import numpy as np
import torch

from hybridcls.functional.metrics import nearest_neighbours

__all__ = ['neighbour_votes']

_MOST = 100_000  # images: some minutes on two processors


def neighbour_votes(embeddings: np.ndarray, labels: np.ndarray, num_classes: int, k: int = 20) -> np.ndarray:
    """Return the share of each class among the k nearest other images, by cosine.

    Args:
        embeddings (np.ndarray): Of any norm, (N, D).
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        k (int): Neighbours; fewer in small classes: as many as the median class has others. Defaults to 20.

    Returns:
        np.ndarray: float32 (N, C). NaN for the only image of a class, and for all of more than 100,000 images.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
        >>> neighbour_votes(embeddings, np.array([0, 1, 1, 0]), 2, k=1)
        array([[0., 1.],
               [1., 0.],
               [1., 0.],
               [0., 1.]], dtype=float32)
    """
    votes = np.full((len(labels), num_classes), np.nan, np.float32)
    counts = np.bincount(labels, minlength=num_classes)
    k = int(min(k, len(labels) - 1, max(1, np.median(counts[counts > 0]) - 1)))
    if k < 1 or len(labels) > _MOST:
        return votes
    _, nearest = nearest_neighbours(torch.from_numpy(np.asarray(embeddings, np.float32)), None, k)
    votes[:] = 0
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[nearest.numpy()]), np.float32(1 / k))
    votes[counts[labels] < 2] = np.nan
    return votes
