"""What the nearest images of each image are labelled as: each left out of its own vote."""

import numpy as np

__all__ = ['neighbour_votes']

_AT_ONCE = 2**24  # similarities


def neighbour_votes(embeddings: np.ndarray, labels: np.ndarray, num_classes: int, k: int = 10) -> np.ndarray:
    """Return the share of each class among the k nearest other images, by cosine.

    Args:
        embeddings (np.ndarray): Of any norm, (N, D).
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        k (int): Neighbours; of fewer than ``k + 1`` images all others. Defaults to 10.

    Returns:
        np.ndarray: float32 (N, C).

    Example:
        >>> neighbour_votes(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]]), np.array([0, 1, 1, 1]), 2, k=1)
        array([[0., 1.],
               [1., 0.],
               [0., 1.],
               [0., 1.]], dtype=float32)
    """
    units = embeddings.astype(np.float32)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    count = len(units)
    k = min(k, count - 1)
    votes = np.zeros((count, num_classes), np.float32)
    if k < 1:
        return votes
    size = max(1, _AT_ONCE // count)
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        similar = units[rows] @ units.T
        similar[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        np.add.at(votes, (rows[:, None], labels[nearest]), 1 / k)
    return votes
