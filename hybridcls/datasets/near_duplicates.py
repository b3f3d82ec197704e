"""Find images that are nearly the same: copies in another size, format or brightness, and mirror images."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import numpy as np

from .image_formats import register_decoders
from .image_look import FREQUENCIES, look_at

__all__ = ['groups_of_near_duplicates', 'signature']

_LOW = 4
# Correlation 0.98 of what the signatures hold. Measured on photographs and drawings: JPEG of quality 30, half the size,
# mirrored, 30 % darker or less contrast are found in 95 to 100 % of the cases, cropped by 2 % in two of three.
# Groups of more than _LARGE images have to be closer: single links would chain what only looks alike (digits, X-rays).
_RADII = (0.2, 0.1, 0.05)
_LARGE = 20
# Compared at once: the images of a camera that does not move are near-duplicates in nearly all of their pairs.
_PAIRS = 2**14
_SUFFIX = re.compile(r'[ _-](mirror|mirrored|flip|flipped|copy)$', re.IGNORECASE)


def signature(path: str) -> Optional[np.ndarray]:
    """Return the signature of an image file (:class:`~hybridcls.datasets.image_look.ImageLook`).

    Mirroring the image changes the signs of :func:`_mirrored`.

    Args:
        path (str): An image file, on any of mmengine's backends.

    Returns:
        np.ndarray | None: float32; None for a file that cannot be read, and for an image of one colour.
    """
    return look_at(path).signature


def _mirrored(signatures: np.ndarray) -> np.ndarray:
    """Return the signatures of the mirror images: odd horizontal frequencies change their sign."""
    brightness = [(-1) ** across for _ in range(FREQUENCIES) for across in range(FREQUENCIES)][1:]
    colors = [(-1) ** across for _ in range(2) for across in range(2) for _ in range(2)]
    return signatures * np.array([*brightness, *colors], dtype=np.float32)


def groups_of_near_duplicates(paths: Sequence[str]) -> list[int]:
    """Assign near-duplicates the same group number.

    These are images whose signatures are closer than 0.2, mirrored or not, directly or by others between them; and
    files of one folder whose names differ in the extension or a suffix alone (``cat.png``, ``cat.jpg``,
    ``cat_mirror.png``).

    Args:
        paths (Sequence[str]): The N image files.

    Returns:
        list[int]: The number of the group of each, counted from 0 in the order of ``paths``; most have one image.

    Example:
        >>> groups_of_near_duplicates(['a/cat.png', 'a/dog.png', 'a/cat_mirror.png'])  # no such files: by the names
        [0, 1, 0]
    """
    register_decoders()  # before threads do
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
        signatures = list(pool.map(signature, paths))
    links = _Links(len(paths))
    first: dict[str, int] = {}
    names = [_SUFFIX.sub('', os.path.splitext(path)[0]) for path in paths]
    links.add(np.array([first.setdefault(name, number) for number, name in enumerate(names)], dtype=np.int64),
              np.arange(len(names)), np.zeros(len(names)))  # fmt: skip
    known = [number for number, one in enumerate(signatures) if one is not None]
    if known:
        _link_close_pairs(np.stack([one for one in signatures if one is not None]), np.array(known), links)
    order: dict[int, int] = {}
    return [order.setdefault(group, len(order)) for group in links.groups().tolist()]


class _Links:
    """Images that are linked by pairs, directly or by others between them: for each radius, in memory for N images.

    Args:
        count (int): N, the number of images.
    """

    def __init__(self, count: int) -> None:
        self._labels = {radius: np.arange(count) for radius in _RADII}

    def add(self, ones: np.ndarray, others: np.ndarray, distances: np.ndarray) -> None:
        """Add pairs of images, by number, and their distances."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        for radius, labels in self._labels.items():
            near = distances <= radius
            pair = labels[ones[near]], labels[others[near]]
            if (pair[0] != pair[1]).any():
                links = coo_matrix((np.ones(len(pair[0])), pair), shape=(len(labels), len(labels)))
                self._labels[radius] = connected_components(links, directed=False)[1][labels]

    def are_apart(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return of each pair whether its distance still matters: by the smallest radius it is not linked yet."""
        labels = self._labels[_RADII[-1]]
        return labels[ones] != labels[others]

    def groups(self) -> np.ndarray:
        """Return the group of each image: by the largest radius whose group is not too large, else by the smallest."""
        found = np.zeros(0, dtype=np.int64)
        for step, radius in enumerate(reversed(_RADII)):
            labels = self._labels[radius]
            own = labels + step * len(labels)  # another number than by another radius
            found = np.where(np.bincount(labels)[labels] <= _LARGE, own, found) if step else own
        return found


def _link_close_pairs(signatures: np.ndarray, numbers: np.ndarray, links: _Links) -> None:
    """Link the images that are closer than the largest radius, mirrored or not, a few pairs at a time."""
    from scipy.spatial import cKDTree

    first: dict[bytes, int] = {}
    same = np.array([first.setdefault(one.tobytes(), row) for row, one in enumerate(signatures)], dtype=np.int64)
    # Many copies of one image would be close in as many pairs as there are.
    links.add(numbers[same], numbers, np.zeros(len(numbers)))
    rows = np.fromiter(first.values(), dtype=np.int64)
    plain, numbers = signatures[rows], numbers[rows]
    both = np.concatenate([plain, _mirrored(plain)])
    # The lowest frequencies are never further apart than all: what they leave is compared in full.
    lowest = [down * FREQUENCIES + across - 1 for down in range(_LOW) for across in range(_LOW)][1:]
    tree, low = cKDTree(both[:, lowest]), plain[:, lowest]
    counts = tree.query_ball_point(low, _RADII[0], workers=-1, return_length=True)
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1):
        near = tree.query_ball_point(low[part], _RADII[0], workers=-1, return_sorted=False)
        others = np.concatenate([np.array(found, dtype=np.int64) for found in near])
        ones = np.repeat(part, [len(found) for found in near])
        chosen = others % len(rows) > ones
        chosen[chosen] = links.are_apart(numbers[ones[chosen]], numbers[others[chosen] % len(rows)])
        ones, others = ones[chosen], others[chosen]
        distances = np.linalg.norm(both[others] - plain[ones], axis=1).astype(np.float64)
        links.add(numbers[ones], numbers[others % len(rows)], distances)
