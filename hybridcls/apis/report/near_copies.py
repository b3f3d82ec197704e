"""Find images of a report that nearly equal a training image: resized, recompressed, brightened or mirrored."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hybridcls.datasets.near_duplicates import groups_of_near_duplicates

from ..image_inputs import Item

__all__ = ['NearCopies', 'near_copies']

_MOST_IMAGES, _MOST_BYTES = 20_000, 2**29  # that are read: about half a minute of one processor


class NearCopies(NamedTuple):
    """The near-copies that were found.

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
        """Whether all images were compared."""
        return self.images == self.of_images and self.trained == self.of_trained


def near_copies(items: Iterable[Item], trained: Iterable[Item]) -> NearCopies:
    """Compare image files with those of a training, as an audit does; of many, a fixed random sample.

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
    """Return a random sample within 1 / ``share`` of the limits on images and bytes, some of which are used up."""
    kept = []
    for row in np.random.default_rng(0).permutation(len(paths)).tolist():
        images, size = images + 1, size + os.path.getsize(paths[row])
        if images > _MOST_IMAGES // share or size > _MOST_BYTES // share:
            break
        kept.append(row)
    return [paths[row] for row in sorted(kept)]
