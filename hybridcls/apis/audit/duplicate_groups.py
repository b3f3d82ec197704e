"""Duplicate images: with two labels in the training, or in both the training and the held-out images."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridcls.datasets.image_look import look_at
from hybridcls.datasets.near_duplicates import groups_of_near_duplicates
from hybridcls.functional.metrics.intervals import Interval, bootstrap_interval, share_interval

from .crops import find_crops

__all__ = ['DuplicateGroup', 'Duplicates', 'Leaks', 'find_duplicates', 'leaks_of']

TRAINING, HELD_OUT = 'training', 'held out'


@dataclass
class DuplicateGroup:
    """A group of images that show the same.

    Args:
        kind (str): ``'exact'``: all files are equal; ``'near'``: they look the same; ``'crop'``: one is a part of
            another.
        training (list[int]): Rows of the training images.
        held_out (list[int]): Rows of the held-out images.
        labels (list[int]): Their class numbers, the training's first.
    """

    kind: str
    training: list[int]
    held_out: list[int]
    labels: list[int]

    @property
    def is_leak(self) -> bool:
        """Whether a held-out image of the group was trained on."""
        return bool(self.training and self.held_out)

    @property
    def contradicts(self) -> bool:
        """Whether the training images of the group, or without these the held-out ones, have several labels."""
        return len(set(self.labels[: len(self.training) or None])) > 1

    @property
    def leaks_other_label(self) -> bool:
        """Whether a held-out image of the group has a label that none of its training images has."""
        count = len(self.training)
        return self.is_leak and not set(self.labels[count:]) <= set(self.labels[:count])


@dataclass
class Duplicates:
    """All groups of two or more images that show the same.

    Args:
        groups (list[DuplicateGroup]): Contradicting ones first, then leaks with other labels, then other leaks, then
            the rest; the largest first.
        training (int), held_out (int): How many images were compared.
    """

    groups: list[DuplicateGroup] = field(default_factory=list)
    training: int = 0
    held_out: int = 0

    def leaked(self) -> np.ndarray:
        """Return the rows of held-out images that equal a training image, ascending."""
        return np.array(sorted({row for one in self.groups if one.is_leak for row in one.held_out}), dtype=np.int64)

    def group_numbers(self, count: int) -> np.ndarray:
        """Return a group number for each training image, int64 (count,), equal for images that show the same."""
        links = [(one.training[0], row) for one in self.groups for row in one.training[1:]]
        start, end = np.array(links, np.int64).reshape(-1, 2).T
        graph = coo_array((np.ones(len(start)), (start, end)), shape=(count, count))
        return connected_components(graph, directed=False)[1].astype(np.int64)

    def copies(self) -> list[int]:
        """Return the rows of training images that are byte-identical copies of an earlier one with the same label."""
        found: list[int] = []
        for one in self.groups:
            if one.kind == 'exact':
                first: dict[int, int] = {}
                for row, label in zip(one.training, one.labels, strict=False):
                    if first.setdefault(label, row) != row:
                        found.append(row)
        return sorted(found)

    def to_drop(self) -> dict[int, str]:
        """Return the rows of training images to drop, ascending, and the reason: ``'copy'`` or ``'held out, too'``.

        A copy is one of :meth:`copies`; without an image that is held out, too, that one tests. Where labels contradict
        each other, a person has to look.
        """
        found = {
            row: 'held out, too' for one in self.groups if one.is_leak and not one.contradicts for row in one.training
        }
        copies = set(self.copies())
        found |= {row: 'copy' for one in self.groups if not one.contradicts for row in one.training if row in copies}
        return dict(sorted(found.items()))


@dataclass
class Leaks:
    """The effect of leaked images (held-out images that were trained on) on the accuracy.

    Args:
        images (int): How many held-out images there are.
        leaked (int): How many of them have trained.
        accuracy (float), accuracy_interval (Interval): Of all.
        leaked_accuracy (float), leaked_interval (Interval): Of those that have trained.
        clean (float), clean_interval (Interval): Of the others.
        change (float), change_interval (Interval): What the accuracy of all is too good by: ``accuracy - clean``.
    """

    images: int
    leaked: int
    accuracy: float
    accuracy_interval: Interval
    leaked_accuracy: float
    leaked_interval: Interval
    clean: float
    clean_interval: Interval
    change: float
    change_interval: Interval


def find_duplicates(
    training: Sequence[Optional[str]],
    labels: np.ndarray,
    held_out: Sequence[Optional[str]] = (),
    held_out_labels: Optional[np.ndarray] = None,
    embeddings: Optional[tuple[np.ndarray, np.ndarray]] = None,
) -> Duplicates:
    """Compare all training images with each other and with the held-out ones.

    Copies have equal bytes. Near-duplicates look the same (:func:`groups_of_near_duplicates`): of another size, format
    or brightness, mirrored. Crops, which that does not find, are looked for among the images whose embeddings are
    nearest.

    Args:
        training (Sequence[str]): Paths; None of an image in memory, which is not compared.
        labels (np.ndarray): Class numbers, (N,).
        held_out (Sequence[str]): Paths. Defaults to none.
        held_out_labels (np.ndarray, optional): Class numbers, (M,).
        embeddings (tuple, optional): Of the training images (N, D), and of the held-out ones (M, D). Defaults to None:
            crops are not looked for.
    """
    paths = [*training, *held_out]
    every = np.concatenate([labels, np.zeros(0, np.int64) if held_out_labels is None else held_out_labels])
    there = [row for row, path in enumerate(paths) if path is not None and os.path.isfile(path)]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
        looks = dict(zip(there, pool.map(lambda row: look_at(str(paths[row])), there), strict=True))
    readable = [row for row in there if not looks[row].problem and not looks[row].is_flat]
    numbers = groups_of_near_duplicates([str(paths[row]) for row in readable])
    groups: dict[int, list[int]] = {}
    for row, number in zip(readable, numbers, strict=True):
        groups.setdefault(number, []).append(row)
    count = len(training)
    found = [
        DuplicateGroup(
            'exact' if len({looks[row].digest for row in rows}) == 1 else 'near',
            [row for row in rows if row < count],
            [row - count for row in rows if row >= count],
            [int(every[row]) for row in rows],
        )
        for rows in groups.values()
        if len(rows) > 1
    ]
    if embeddings is not None and len(readable):
        number_of = dict(zip(readable, numbers, strict=True))
        seen = [paths[row] if row in number_of else None for row in range(len(paths))]
        crops = find_crops(seen, every, np.concatenate(embeddings), count)
        for one, other in crops:
            if number_of[one] != number_of[other]:
                rows = sorted((one, other))
                found.append(
                    DuplicateGroup(
                        'crop',
                        [row for row in rows if row < count],
                        [row - count for row in rows if row >= count],
                        [int(every[row]) for row in rows],
                    )
                )
    if any(row < count for row in there):  # beside training images, those among held-out ones alone matter little
        found = [one for one in found if one.training]
    found.sort(key=lambda one: (not one.contradicts, not one.leaks_other_label, not one.is_leak, -len(one.labels)))
    return Duplicates(found, sum(row < count for row in there), sum(row >= count for row in there))


def leaks_of(duplicates: Duplicates, right: np.ndarray, confidence: float = 0.95) -> Optional[Leaks]:
    """Return the accuracy without the leaked held-out images; None if there are none.

    Args:
        duplicates (Duplicates): Of the same held-out images.
        right (np.ndarray): Whether each is answered rightly, bool (M,).
        confidence (float): Of the intervals. Defaults to 0.95.
    """
    rows = duplicates.leaked()
    if not len(rows):
        return None
    leaked = np.zeros(len(right), dtype=bool)
    leaked[rows] = True
    hits, kept = torch.from_numpy(right).double(), torch.from_numpy(~leaked).double()

    def change(weights: torch.Tensor) -> torch.Tensor:
        return (weights @ hits) / weights.sum(1) - (weights @ (hits * kept)) / (weights @ kept)

    ends = bootstrap_interval(change, len(right), confidence=confidence)
    clean = float(right[~leaked].mean()) if (~leaked).any() else float('nan')
    return Leaks(
        images=len(right),
        leaked=int(leaked.sum()),
        accuracy=float(right.mean()),
        accuracy_interval=share_interval(int(right.sum()), len(right), confidence),
        leaked_accuracy=float(right[leaked].mean()),
        leaked_interval=share_interval(int(right[leaked].sum()), int(leaked.sum()), confidence),
        clean=clean,
        clean_interval=share_interval(int(right[~leaked].sum()), int((~leaked).sum()), confidence),
        change=float(right.mean()) - clean,
        change_interval=Interval(float(ends.low), float(ends.high)),
    )
