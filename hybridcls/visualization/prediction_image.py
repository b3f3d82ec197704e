"""Convert a network's input to an image that can be shown with text."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from torch import Tensor

from .text_fonts import font_families

__all__ = ['ClassNames', 'enlarge', 'fitting_text', 'fitting_text_size', 'to_rgb_image']

_LEAST_EDGE, _MOST_EDGE = 320, 1280  # pixels
_CHARACTER_WIDTH = 0.62  # of a monospace font, of its size


class ClassNames(list):
    """Class names by number; other numbers, such as -1, give ``'unknown'``.

    Example:
        >>> names = ClassNames(['cat', 'dog'])
        >>> names[1], names[-1], names[7]
        ('dog', 'unknown', 'unknown')
    """

    def __getitem__(self, number: Any) -> Any:
        """Return the name of a class."""
        return super().__getitem__(number) if 0 <= number < len(self) else 'unknown'


def to_rgb_image(image: Tensor, is_bgr: bool) -> np.ndarray:
    """Return an image as uint8 (H, W, 3), RGB.

    Args:
        image (Tensor): (C, H, W). uint8 is unchanged; other dtypes are scaled from their smallest value (black) to
            their largest (white). One or two channels: the first becomes grey; four or more: the first three are used.
        is_bgr (bool): Whether blue comes first.
    """
    pixels = image.detach().cpu()
    pixels = pixels[:1].expand(3, -1, -1) if len(pixels) < 3 else pixels[:3]
    if pixels.element_size() > 1 or pixels.is_floating_point():
        pixels = pixels.double()
        pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp_min(1e-12) * 255
    array = pixels.permute(1, 2, 0).numpy().astype(np.uint8)
    return np.ascontiguousarray(array[..., ::-1] if is_bgr else array)


def enlarge(image: np.ndarray) -> np.ndarray:
    """Repeat pixels until the short edge has 320 pixels, and the long one at most 1280.

    Example:
        >>> enlarge(np.zeros((28, 28, 3), np.uint8)).shape
        (336, 336, 3)
    """
    factor = math.ceil(_LEAST_EDGE / min(image.shape[:2]))
    factor = max(1, min(factor, _MOST_EDGE // max(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def fitting_text(width: int, sample: Any, classes: Optional[Sequence[str]], dpi: int = 100) -> dict[str, Any]:
    """Return ``size`` and ``family`` for matplotlib so that the text fits and its characters exist."""
    family = font_families(''.join(_lines(sample, classes)), 'monospace')
    return dict(size=fitting_text_size(width, sample, classes, dpi), family=family)


def fitting_text_size(width: int, sample: Any, classes: Optional[Sequence[str]], dpi: int = 100) -> float:
    """Return the font size in points, from 5 to 14, at which the longest line fits into ``width`` pixels."""
    longest = max(map(_columns, _lines(sample, classes)), default=20) + 2
    return min(14.0, max(5.0, 72 / dpi * width / longest / _CHARACTER_WIDTH))


def _lines(sample: Any, classes: Optional[Sequence[str]]) -> list[str]:
    labels = [number for field in ('gt_label', 'pred_label') for number in sample.get(field, Tensor()).long().tolist()]
    return [f'Ground truth: {n}, 0.00' + ('' if classes is None else f' ({classes[n]})') for n in labels]


def _columns(line: str) -> int:
    """Return the width of a text in columns; Chinese, Japanese and Korean characters count twice."""
    return len(line) + sum(unicodedata.east_asian_width(one) in 'WF' for one in line)
