"""Apply a small random rotation, translation, scaling and shear in one warp."""

import math
from collections.abc import Sequence
from typing import Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import TRANSFORMS

__all__ = ['RandomAffine']

_INTERPOLATIONS = {'nearest': cv2.INTER_NEAREST, 'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}


@TRANSFORMS.register_module()
class RandomAffine(BaseTransform):
    r"""Rotate, translate, scale and shear the image about its middle, by random amounts for each image.

    The size stays. One ``cv2.warpAffine`` does it all: a 32-pixel digit takes some 20 microseconds. mmpretrain's
    ``Rotate``, ``Translate`` and ``Shear`` would resample three times.

    A point :math:`p` of the image moves to :math:`s\,R(\theta)\,\mathrm{Shear}(\phi)\,(p - c) + c + t`.

    Args:
        degrees (float): Rotations are drawn uniformly from [-degrees, degrees]; positive turns clockwise on the
            screen. Defaults to 0.
        translate (float): Shifts are drawn from [-translate, translate] times the image's height and width.
            Defaults to 0.
        scale (Sequence[float]): Smallest and largest scale; 1 keeps the size. Defaults to (1, 1).
        shear (float): Shears of the vertical lines are drawn from [-shear, shear] degrees, below 90. Defaults to 0.
        fill (int | Sequence[int]): Pixel value in [0, 255] outside the image, one for all channels or
            (blue, green, red). Defaults to 0.
        interpolation (str): ``'nearest'``, ``'bilinear'`` or ``'bicubic'``. Defaults to ``'bilinear'``.

    Raises:
        ValueError: If an amount is out of range.

    Example:
        >>> affine = RandomAffine(degrees=10, translate=0.1, scale=(0.9, 1.1))
        >>> affine(dict(img=np.zeros((32, 32, 3), np.uint8)))['img'].shape
        (32, 32, 3)
    """

    def __init__(
        self,
        degrees: float = 0,
        translate: float = 0,
        scale: Sequence[float] = (1.0, 1.0),
        shear: float = 0,
        fill: Union[int, Sequence[int]] = 0,
        interpolation: str = 'bilinear',
    ) -> None:
        check_number('RandomAffine', 'degrees', degrees, 0, 180)
        check_number('RandomAffine', 'translate', translate, 0, 1)
        check_number('RandomAffine', 'shear', shear, 0, 90, high_open=True, advice='Shears are degrees.')
        check_choice('RandomAffine', 'interpolation', interpolation, _INTERPOLATIONS)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f'RandomAffine: expected scale as 0 < smallest <= largest, got {scale!r}.')
        self.degrees = degrees
        self.translate = translate
        self.scale = (float(scale[0]), float(scale[1]))
        self.shear = shear
        self.fill = (fill,) * 3 if isinstance(fill, int) else tuple(fill)
        self.interpolation = interpolation

    @cache_randomness
    def _draw(self) -> tuple[float, float, float, float, float]:
        """Draw rotation and shear in radians, scale, and shifts as shares of height and width."""
        # One call for all five: each call into numpy costs as much as the warp of a digit. numpy's
        # global generator is the one that mmengine seeds in each worker.
        angle, slant, zoom, down, right = np.random.uniform(-1.0, 1.0, 5)  # noqa: NPY002
        smallest, largest = self.scale
        return (
            math.radians(angle * self.degrees),
            math.radians(slant * self.shear),
            smallest + (largest - smallest) * (zoom + 1) / 2,
            down * self.translate,
            right * self.translate,
        )

    def transform(self, results: dict) -> dict:
        """Warp ``results['img']``, (H, W, 3) uint8 or float32."""
        image = results['img']
        height, width = image.shape[:2]
        angle, slant, zoom, down, right = self._draw()
        cos, sin, tan = math.cos(angle) * zoom, math.sin(angle) * zoom, math.tan(slant)
        a, b, c, d = cos, cos * tan - sin, sin, sin * tan + cos
        x, y = (width - 1) / 2, (height - 1) / 2
        matrix = np.array([[a, b, x - a * x - b * y + right * width], [c, d, y - c * x - d * y + down * height]])
        results['img'] = cv2.warpAffine(
            image, matrix, (width, height), flags=_INTERPOLATIONS[self.interpolation], borderValue=self.fill
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(degrees={self.degrees}, translate={self.translate}, scale={self.scale}, '
            f'shear={self.shear}, fill={self.fill}, interpolation={self.interpolation!r})'
        )
