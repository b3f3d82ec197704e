"""Colour jitter of 8-bit images, one pass of OpenCV an operation."""

import random
from collections.abc import Sequence
from typing import Union

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from hybridcls.checks import check_number
from hybridcls.registry import TRANSFORMS

__all__ = ['FusedColorJitter']

Range = Union[float, Sequence[float]]
LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green, red: ITU-R 601, as Pillow and torchvision weigh them


@TRANSFORMS.register_module()
class FusedColorJitter(BaseTransform):
    r"""Jitter brightness, contrast, saturation and hue in random order, and randomly convert to grayscale.

    The distribution is that of torchvision's ``RandomApply([ColorJitter(...)], prob)`` and
    ``RandomGrayscale(grayscale_prob)``: factors uniform in ``1 -+ value``, the hue's shift uniform in ``-+ hue`` of the
    circle, the order uniform over all. Each operation blends an image x with a degenerate one and clips to [0, 255]:

    - brightness: :math:`b x`; contrast: :math:`c x + (1 - c) m`, with the mean grey value m of the image as it is then.
    - saturation: :math:`s x + (1 - s) g`, with the grey value g of each pixel: one 3 x 3 matrix in 8 bits.
    - hue: the hue of each pixel, in steps of 1 / 256 of the circle, plus the shift.

    Values are rounded once an operation, where Pillow cuts off, so that pixels differ by one level an operation.

    Reads and writes ``img``, (H, W, 3) uint8 BGR.

    Args:
        brightness (float | Sequence[float]): Factors from 1 - brightness (at least 0) to 1 + brightness, or a range
            (smallest, largest). Defaults to 0, which changes nothing.
        contrast (float | Sequence[float]): As brightness. Defaults to 0.
        saturation (float | Sequence[float]): As brightness. Defaults to 0.
        hue (float | Sequence[float]): Shift of the hue, in [0, 0.5] of the circle, or a range in [-0.5, 0.5]. Defaults
            to 0.
        prob (float): How often the jitter is applied, in [0, 1]. Defaults to 1.
        grayscale_prob (float): How often the colours are taken away, in [0, 1]. Defaults to 0.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> jitter = FusedColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8)
        >>> jitter(dict(img=np.zeros((8, 8, 3), np.uint8)))['img'].shape
        (8, 8, 3)
    """

    def __init__(
        self,
        brightness: Range = 0.0,
        contrast: Range = 0.0,
        saturation: Range = 0.0,
        hue: Range = 0.0,
        prob: float = 1.0,
        grayscale_prob: float = 0.0,
    ) -> None:
        self.brightness = _factors('brightness', brightness)
        self.contrast = _factors('contrast', contrast)
        self.saturation = _factors('saturation', saturation)
        self.hue = _range('hue', hue if isinstance(hue, Sequence) else (-hue, hue), -0.5, 0.5)
        check_number('FusedColorJitter', 'prob', prob, 0, 1)
        check_number('FusedColorJitter', 'grayscale_prob', grayscale_prob, 0, 1)
        self.prob, self.grayscale_prob = prob, grayscale_prob
        ranges = dict(brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue)
        neutral = dict(hue=(0.0, 0.0))
        self._ranges = {name: own for name, own in ranges.items() if own != neutral.get(name, (1.0, 1.0))}

    def draw(self) -> tuple[list[tuple[str, float]], bool]:
        """Draw the operations with their factors, in order, and whether to convert to grayscale."""
        operations = []
        if random.random() < self.prob:
            operations = [(name, random.uniform(low, high)) for name, (low, high) in self._ranges.items()]
            random.shuffle(operations)
        return operations, random.random() < self.grayscale_prob

    def transform(self, results: dict) -> dict:
        """Jitter ``results['img']``."""
        operations, grayscale = self.draw()
        image = jittered(results['img'], operations)
        if grayscale:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        results['img'] = image
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast}, '
            f'saturation={self.saturation}, hue={self.hue}, prob={self.prob}, grayscale_prob={self.grayscale_prob})'
        )


def jittered(image: np.ndarray, operations: Sequence[tuple[str, float]]) -> np.ndarray:
    """Apply jitter operations to an image.

    Args:
        image (np.ndarray): (H, W, 3) uint8 BGR; not written to.
        operations (Sequence[tuple[str, float]]): Names (``'brightness'``, ``'contrast'``, ``'saturation'``, ``'hue'``)
            and factors, in order.

    Returns:
        np.ndarray: (H, W, 3) uint8 BGR.
    """
    for name, factor in operations:
        if name == 'brightness':
            image = cv2.addWeighted(image, factor, image, 0, 0)
        elif name == 'contrast':
            image = cv2.addWeighted(image, factor, image, 0, (1 - factor) * _mean_grey(image))
        elif name == 'saturation':
            image = cv2.transform(image, factor * np.eye(3) + (1 - factor) * LUMA)
        else:
            image = _with_hue(image, factor)
    return image


def _mean_grey(image: np.ndarray) -> int:
    """Return the mean grey value of an image, rounded as Pillow does."""
    return int(np.dot(cv2.mean(image)[:3], LUMA) + 0.5)


def _with_hue(image: np.ndarray, shift: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    rows = hsv.reshape(len(hsv), -1)
    turn = np.zeros(rows.shape[1], np.uint8)
    turn[::3] = int(shift * 255) % 256
    rows += turn  # turns round at the end of the circle; whole rows, as numpy is slow on one channel
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def _factors(name: str, value: Range) -> tuple[float, float]:
    if not isinstance(value, Sequence):
        check_number('FusedColorJitter', name, value, 0)
        value = (max(0.0, 1 - value), 1 + value)
    return _range(name, value, 0.0, float('inf'))


def _range(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(
            f'FusedColorJitter: expected {name} to be a range in [{low:g}, {high:g}], got {value!r}. Give one '
            'number, or (smallest, largest).'
        )
    return float(value[0]), float(value[1])
