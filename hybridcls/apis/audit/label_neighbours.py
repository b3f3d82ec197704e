"""What the nearest images of each image are labelled as: each left out of its own vote."""

import numpy as np

__all__ = ['neighbour_votes']

_AT_ONCE = 2**24  # similarities


def neighbour_votes(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, k: int = 20, most: int = 50_000
) -> np.ndarray:
    """Return the share of each class among the k nearest other images, by cosine.

    Args:
        embeddings (np.ndarray): Of any norm, (N, D).
        labels (np.ndarray): Class numbers, (N,).
        num_classes (int): C.
        k (int): Neighbours; of fewer than ``k + 1`` images all others. In classes of few images fewer: as many as the
            median class has others. Defaults to 20.
        most (int): Of more images so many, evenly spaced, are looked for. Defaults to 50,000.

    Returns:
        np.ndarray: float32 (N, C). NaN for the only image of a class.

    Example:
        >>> embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
        >>> neighbour_votes(embeddings, np.array([0, 1, 1, 0]), 2, k=1)
        array([[0., 1.],
               [1., 0.],
               [1., 0.],
               [0., 1.]], dtype=float32)
    """
    units = embeddings.astype(np.float32)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    count = len(units)
    votes = np.full((count, num_classes), np.nan, np.float32)
    counts = np.bincount(labels, minlength=num_classes)
    bank = np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)
    k = int(min(k, len(bank) - 1, max(1, np.median(counts[counts > 0]) - 1)))
    if k < 1:
        return votes
    place = np.full(count, -1)
    place[bank] = np.arange(len(bank))
    size = max(1, _AT_ONCE // len(bank))
    for start in range(0, count, size):
        rows = np.arange(start, min(start + size, count))
        similar = units[rows] @ units[bank].T
        own = np.flatnonzero(place[rows] >= 0)
        similar[own, place[rows[own]]] = -np.inf
        nearest = bank[np.argpartition(-similar, k - 1, axis=1)[:, :k]]
        votes[rows] = 0
        np.add.at(votes, (rows[:, None], labels[nearest]), np.float32(1 / k))
    votes[counts[labels] < 2] = np.nan
    return votes
