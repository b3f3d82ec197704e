"""Erase a rectangle of an 8-bit image, filled in one pass of OpenCV."""

import math
import random
from collections.abc import Sequence
from typing import Optional, Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import TRANSFORMS

__all__ = ['RandomErasing']

Color = Union[float, Sequence[float]]
_MODES = ('const', 'rand')


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Fill a random rectangle with a colour or with noise (`Zhong et al. <https://arxiv.org/abs/1708.04896>`_).

    Arguments and distribution are those of mmpretrain's ``RandomErasing``: an area uniform in the given share of the
    image, an aspect ratio log-uniform in its range, sides cut at those of the image, a place uniform inside of it.
    Noise is drawn as 8-bit numbers at once, not as float64 that are converted.

    Reads and writes ``img``, (H, W, 3) uint8 BGR; what is erased is a copy.

    Args:
        erase_prob (float): How often, in [0, 1]. Defaults to 0.5.
        min_area_ratio (float): Smallest share of the image's area, in [0, 1]. Defaults to 0.02.
        max_area_ratio (float): Largest share. Defaults to 0.4.
        aspect_range (float | Sequence[float]): Height over width, from smallest to largest; of a number r: r and 1 / r.
            Defaults to (3 / 10, 10 / 3).
        mode (str): ``'const'``: ``fill_color`` everywhere; ``'rand'``: noise of its own in each pixel and channel.
            Defaults to ``'const'``.
        fill_color (float | Sequence[float]): BGR in [0, 255]; with ``fill_std`` the mean of the noise. Defaults to
            (128, 128, 128).
        fill_std (float | Sequence[float], optional): Standard deviation of normal noise, which is cut at 0 and 255.
            Defaults to None: noise uniform in [0, 255].

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> erasing = RandomErasing(erase_prob=1.0, fill_color=7)
        >>> int(erasing(dict(img=np.zeros((8, 8, 3), np.uint8)))['img'].max())
        7
    """

    def __init__(
        self,
        erase_prob: float = 0.5,
        min_area_ratio: float = 0.02,
        max_area_ratio: float = 0.4,
        aspect_range: Union[float, Sequence[float]] = (3 / 10, 10 / 3),
        mode: str = 'const',
        fill_color: Color = (128, 128, 128),
        fill_std: Optional[Color] = None,
    ) -> None:
        name = type(self).__name__
        check_number(name, 'erase_prob', erase_prob, 0, 1)
        check_number(name, 'max_area_ratio', max_area_ratio, 0, 1)
        check_number(name, 'min_area_ratio', min_area_ratio, 0, max_area_ratio)
        check_choice(name, 'mode', mode, _MODES)
        if isinstance(aspect_range, (int, float)):
            aspect_range = sorted((aspect_range, 1 / aspect_range if aspect_range else 0.0))
        if len(aspect_range) != 2 or not 0 < aspect_range[0] <= aspect_range[1]:
            raise ValueError(
                f'{name}: expected aspect_range to be (smallest, largest) above 0, got {tuple(aspect_range)}. Give one '
                'number r for (r, 1 / r).'
            )
        self.erase_prob = erase_prob
        self.min_area_ratio, self.max_area_ratio = min_area_ratio, max_area_ratio
        self.aspect_range = (float(aspect_range[0]), float(aspect_range[1]))
        self.mode = mode
        self.fill_color = _three(name, 'fill_color', fill_color)
        self.fill_std = None if fill_std is None else _three(name, 'fill_std', fill_std)

    def draw(self, height: int, width: int) -> Optional[tuple[int, int, int, int]]:
        """Draw the erased rectangle of an image (top, left, height, width); None if the image stays as it is."""
        if random.random() > self.erase_prob:
            return None
        low, high = map(math.log, self.aspect_range)
        ratio = math.exp(random.uniform(low, high))
        area = height * width * random.uniform(self.min_area_ratio, self.max_area_ratio)
        h, w = min(round(math.sqrt(area * ratio)), height), min(round(math.sqrt(area / ratio)), width)
        return (
            random.randrange(height - h) if height > h else 0,
            random.randrange(width - w) if width > w else 0,
            h,
            w,
        )

    def transform(self, results: dict) -> dict:
        """Erase a rectangle of ``results['img']``."""
        place = self.draw(*results['img'].shape[:2])
        if place is not None and place[2] and place[3]:
            top, left, height, width = place
            image = results['img'].copy()  # it may be in a cache, or in another view
            self._fill(image[top : top + height, left : left + width])
            results['img'] = image
        return results

    def _fill(self, patch: np.ndarray) -> None:
        if self.mode == 'const':
            patch[:] = np.array(self.fill_color, np.uint8)
            return
        cv2.setRNGSeed(random.getrandbits(31))  # OpenCV has random numbers of its own
        if self.fill_std is None:
            cv2.randu(patch, np.zeros(3), np.full(3, 256.0))
        else:
            # Cut off below the point, as mmpretrain does, where OpenCV rounds.
            cv2.randn(patch, np.subtract(self.fill_color, 0.5), np.array(self.fill_std, float))

    def __repr__(self) -> str:
        keys = ('erase_prob', 'min_area_ratio', 'max_area_ratio', 'aspect_range', 'mode', 'fill_color', 'fill_std')
        return f'{type(self).__name__}({", ".join(f"{key}={getattr(self, key)!r}" for key in keys)})'


def _three(caller: str, name: str, value: Color) -> tuple[float, ...]:
    """Return one number for each of three channels."""
    values = (value,) * 3 if isinstance(value, (int, float)) else tuple(value)
    if len(values) != 3:
        raise ValueError(f'{caller}: expected {name} to be a number or three of them, got {value!r}.')
    for one in values:
        check_number(caller, name, one, 0, 255)
    return values
