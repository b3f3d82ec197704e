"""Images of a report that look like one of the training: copies in another size, format or brightness, or mirrored."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hybridcls.datasets.near_duplicates import groups_of_near_duplicates

from ..image_inputs import Item

__all__ = ['NearCopies', 'near_copies']

_MOST_IMAGES, _MOST_BYTES = 20_000, 2**29  # that are read: about half a minute of one processor


class NearCopies(NamedTuple):
    """What was found.

    Args:
        pairs (list[tuple[str, str]]): Paths of an image, and of one of the training that looks like it.
        images (int), of_images (int): How many images were compared, of how many.
        trained (int), of_trained (int): With how many of the training, of how many.
    """

    pairs: list[tuple[str, str]]
    images: int
    of_images: int
    trained: int
    of_trained: int

    @property
    def is_whole(self) -> bool:
        """Whether all were compared."""
        return self.images == self.of_images and self.trained == self.of_trained


def near_copies(items: Iterable[Item], trained: Iterable[Item]) -> NearCopies:
    """Compare images in files with those of a training, as an audit does; of many some, drawn by a fixed seed.

    At most 20,000 files of 512 MiB together are read, up to half of them of either set.
    """
    own, others = _paths(items), _paths(trained)
    some = _some(own, 2)
    against = _some(others, 1, len(some), sum(map(os.path.getsize, some)))
    numbers = groups_of_near_duplicates([*some, *against])
    first: dict[int, str] = {}
    for path, number in zip(against, numbers[len(some) :], strict=True):
        first.setdefault(number, path)
    pairs = [(path, first[number]) for path, number in zip(some, numbers, strict=False) if number in first]
    return NearCopies(pairs, len(some), len(own), len(against), len(others))


def _paths(items: Iterable[Item]) -> list[str]:
    return list(dict.fromkeys(
        item.source for item in items if isinstance(item.source, str) and os.path.isfile(item.source)
    ))  # fmt: skip


def _some(paths: Sequence[str], share: int, images: int = 0, size: int = 0) -> list[str]:
    """Return as many as one of ``share`` parts of what may be read holds, where some was read before."""
    kept = []
    for row in np.random.default_rng(0).permutation(len(paths)).tolist():
        images, size = images + 1, size + os.path.getsize(paths[row])
        if images > _MOST_IMAGES // share or size > _MOST_BYTES // share:
            break
        kept.append(row)
    return [paths[row] for row in sorted(kept)]
