"""Find images that are a crop of another one, among those whose embeddings are close."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Optional

import cv2
import numpy as np
from PIL import Image, ImageOps

from hybridcls.datasets.image_formats import is_transparent

__all__ = ['find_crops', 'is_crop']

_NEIGHBOURS = 3
_MOST_PAIRS = 3000  # one takes two or three milliseconds
_AT_ONCE = 2**24  # similarities
_SIDE = 64  # pixels, of the longer side of the whole image
_SMALLEST = 14  # pixels
# From a tenth of the area to all but a rim; where the correlation is high, steps of a quarter are taken, too.
_SCALES = np.geomspace(0.35, 0.98, 12)
_NEARLY, _ALIKE = 0.8, 0.95  # correlation
_FLAT = 8.0  # standard deviation, in grey levels of 256: a flat part lies in every image


def find_crops(
    paths: Sequence[Optional[str]], labels: np.ndarray, embeddings: np.ndarray, count: int
) -> list[tuple[int, int]]:
    """Find pairs of images of which one is a crop of the other.

    Compared are each image and its three nearest training images, at most 3,000 pairs, the nearest embeddings first; of
    two training images only those with two labels, since the others do no harm.

    Args:
        paths (Sequence[str]): Of N images; None: it is left out.
        labels (np.ndarray): Class numbers, (N,).
        embeddings (np.ndarray): (N, D).
        count (int): The first so many are training images, the others held out.

    Returns:
        list[tuple[int, int]]: Rows, the smaller first.
    """
    rows = np.array([row for row, path in enumerate(paths) if path is not None], dtype=np.int64)
    trained = int((rows < count).sum())
    if not trained or len(rows) < 2:
        return []
    units = embeddings[rows].astype(np.float32)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    near: dict[tuple[int, int], float] = {}
    most = min(_NEIGHBOURS, trained)
    size = max(1, _AT_ONCE // trained)
    for start in range(0, len(rows), size):
        own = np.arange(start, min(start + size, len(rows)))
        similar = units[own] @ units[:trained].T
        inside = own[own < trained]
        similar[inside - start, inside] = -np.inf
        nearest = np.argpartition(-similar, most - 1, axis=1)[:, :most]
        for row, others in zip(own, nearest, strict=True):
            for other in others:
                pair = (int(rows[min(row, other)]), int(rows[max(row, other)]))
                near[pair] = float(similar[row - start, other])
    wanted = [pair for pair in near if pair[0] != pair[1] and (pair[1] >= count or labels[pair[0]] != labels[pair[1]])]
    pairs = sorted(wanted, key=lambda pair: (-near[pair], pair))[:_MOST_PAIRS]
    read = lru_cache(maxsize=512)(lambda row: _grey(str(paths[row])))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # threads inside of threads take ten times as long
    try:
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # OpenCV releases Python's lock
            found = list(pool.map(lambda pair: is_crop(read(pair[0]), read(pair[1])), pairs))
    finally:
        cv2.setNumThreads(threads)
    return [pair for pair, alike in zip(pairs, found, strict=True) if alike]


def is_crop(one: Optional[np.ndarray], other: Optional[np.ndarray]) -> bool:
    """Return whether one of two images is a crop of the other, mirrored or not.

    Args:
        one (np.ndarray), other (np.ndarray): Grey, uint8 (H, W), the longer side at least 96 pixels or as it is. None
            is no image.
    """
    if one is None or other is None:
        return False
    return any(_lies_in(part, whole) for part, whole in ((one, other), (other, one)))


def _lies_in(part: np.ndarray, whole: np.ndarray) -> bool:
    whole = _resized(whole, _SIDE / max(whole.shape))
    fit = min(whole.shape[0] / part.shape[0], whole.shape[1] / part.shape[1])

    def alike(scale: float) -> float:
        """Return the largest correlation where the part fills so much of the side that it fills more."""
        small = _resized(part, scale * fit)
        too_large = small.shape[0] > whole.shape[0] or small.shape[1] > whole.shape[1]
        if too_large or min(small.shape) < _SMALLEST or small.std() < _FLAT:
            return 0.0
        both = small, np.ascontiguousarray(small[:, ::-1])
        return max(float(cv2.matchTemplate(whole, one, cv2.TM_CCOEFF_NORMED).max()) for one in both)

    coarse = [alike(scale) for scale in _SCALES]
    best = int(np.argmax(coarse))
    if coarse[best] < _NEARLY:
        return False
    step = (_SCALES[1] / _SCALES[0]) ** 0.25
    return max(coarse[best], *(alike(_SCALES[best] * step**k) for k in (-3, -2, -1, 1, 2, 3))) >= _ALIKE


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _grey(path: str) -> Optional[np.ndarray]:
    try:
        with Image.open(path) as file:
            file.draft('L', (2 * _SIDE, 2 * _SIDE))
            image = ImageOps.exif_transpose(file)
            if is_transparent(image):
                image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))
            image = image.convert('L')
            image.thumbnail((2 * _SIDE, 2 * _SIDE), Image.Resampling.BOX)
            return np.asarray(image)
    except Exception:  # Pillow raises errors of many types on broken files
        return None
