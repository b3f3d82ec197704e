"""Check the image files of all splits: all of up to 10,000, a sample of more."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from hybridcls.datasets.image_formats import register_decoders
from hybridcls.datasets.image_look import ImageLook, look_at

from .data_parts import DataPart

__all__ = ['MOST_IMAGES', 'MOST_SECONDS', 'ImageScan', 'scan_images']

MOST_IMAGES, MOST_SECONDS = 10_000, 45.0
_CHUNK = 64


@dataclass
class ImageScan:
    """What the images look like.

    Args:
        looks (dict[str, ImageLook]): By path.
        missing (list[str]): Paths without a file.
        found (int): Number of files of all splits, each once.
        seconds (float): How long it took.
        stopped (bool): Whether the time was over before the sample was.
    """

    looks: dict[str, ImageLook] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    found: int = 0
    seconds: float = 0.0
    stopped: bool = False

    def of(self, part: DataPart) -> list[tuple[str, tuple[int, ...], ImageLook]]:
        """Return path, labels and look of those images of a part that were looked at, and that have no problem."""
        return [
            (path, labels, self.looks[path])
            for path, labels in zip(part.paths, part.labels_of_paths, strict=True)
            if path in self.looks and not self.looks[path].problem
        ]


def scan_images(parts: Sequence[DataPart], most: int = MOST_IMAGES, seconds: float = MOST_SECONDS) -> ImageScan:
    """Look at the images of all parts, in threads.

    Of more than ``most`` images a sample is looked at, always the same: of the smaller splits all, as far as they fill
    half of it, so that copies between them and the training data are found.

    Args:
        parts (Sequence[DataPart]): The splits; an image of several is looked at once.
        most (int): How many images. Defaults to 10,000.
        seconds (float): After so many seconds no more. Defaults to 45.
    """
    began = time.monotonic()
    register_decoders()  # before threads do
    chosen: dict[str, None] = {}
    every = {path for part in parts for path in part.paths}
    scan = ImageScan(found=len(every))
    scan.missing = sorted(path for path in every if '://' not in path and not os.path.isfile(path))
    gone = set(scan.missing)
    left = most
    by_size = sorted(parts, key=lambda part: len(part.paths))
    for number, part in enumerate(by_size):
        paths = [path for path in dict.fromkeys(part.paths) if path not in chosen and path not in gone]
        share = left if number == len(by_size) - 1 else min(left, max(1, most // 2 // max(1, len(by_size) - 1)))
        if len(paths) > share:
            order = np.random.default_rng(0).permutation(len(paths))[:share]
            paths = [paths[position] for position in sorted(order)]
        chosen.update(dict.fromkeys(paths))
        left -= len(paths)
    todo = list(chosen)
    if len(todo) > _CHUNK:  # so that what the time does not suffice for is of all classes
        todo = [todo[position] for position in np.random.default_rng(0).permutation(len(todo))]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
        for start in range(0, len(todo), _CHUNK):
            if time.monotonic() - began > seconds:
                scan.stopped = True
                break
            paths = todo[start : start + _CHUNK]
            scan.looks.update(zip(paths, pool.map(look_at, paths), strict=True))
    scan.seconds = time.monotonic() - began
    return scan
