"""mmpretrain's RandAugment, with lookup tables of 256 values in place of passes over the image."""

from collections.abc import Callable
from typing import Any, Optional

import cv2
import mmpretrain.datasets.transforms as mmpretrain_transforms
import numpy as np

from hybridcls.registry import TRANSFORMS

__all__ = ['RandAugment']

_LEVELS = np.arange(256, dtype=np.uint8)[:, None]
# What a pixel becomes depends on its own value alone.
_POINTWISE = (
    mmpretrain_transforms.Brightness,
    mmpretrain_transforms.Invert,
    mmpretrain_transforms.Posterize,
    mmpretrain_transforms.Solarize,
    mmpretrain_transforms.SolarizeAdd,
)


@TRANSFORMS.register_module()
class RandAugment(mmpretrain_transforms.RandAugment):
    """Apply random operations as mmpretrain's transform does, with the same draws and pixels, in half the time.

    Operations on single values (brightness, inversion, solarizing ...) are applied to the 256 values, and histograms
    (equalization, contrast) are counted by OpenCV. Images of other than three channels of 8 bits, and operations
    without such a table (rotation, shear, sharpness ...), are left to mmpretrain.

    Args:
        policies (str | list[dict]), num_policies (int), magnitude_level (int), magnitude_std (float | str),
            total_level (int), hparams (dict): As in mmpretrain.

    Example:
        >>> augment = RandAugment('timm_increasing', num_policies=2, magnitude_level=9)
        >>> augment(dict(img=np.zeros((8, 8, 3), np.uint8)))['img'].shape
        (8, 8, 3)
    """

    def transform(self, results: dict) -> dict:
        """Apply operations to ``results['img']``."""
        for number in self.random_policy_indices():
            operation, image = self.transforms[number], results['img']
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                results = operation(results)
            elif isinstance(operation, _POINTWISE):
                table = operation(dict(img=_LEVELS))['img']
                results['img'] = image if table is _LEVELS else cv2.LUT(image, table)
            elif type(operation) in _TABLES:
                table = None if operation.random_disable() else _TABLES[type(operation)](operation, image)
                results['img'] = image if table is None else cv2.LUT(image, table)
            else:
                results = operation(results)
        return results


def _stretched(operation: Any, image: np.ndarray) -> np.ndarray:
    """Return the lookup table (256, 1, 3) that stretches the values of each channel to [0, 255]."""
    tables = []
    for plane in cv2.split(image):
        low, high = cv2.minMaxLoc(plane)[:2]
        scale = 255 / max(high - low, 1)
        table = np.clip(_LEVELS * scale - low * scale, 0, 255).astype(np.uint8)
        tables.append(table if low < high else _LEVELS)
    return np.stack(tables, axis=-1)


def _equalized(operation: Any, image: np.ndarray) -> np.ndarray:
    """Return the lookup table (256, 1, 3) that equalizes the histogram of each channel, as Pillow computes it."""
    tables = []
    for plane in cv2.split(image):
        counts = cv2.calcHist([plane], [0], None, [256], [0, 256]).astype(np.int64).reshape(_LEVELS.shape)
        step = (plane.size - int(counts[counts > 0][-1])) // 255
        below = np.cumsum(counts, axis=0) - counts
        tables.append(np.minimum((below + step // 2) // step, 255).astype(np.uint8) if step else _LEVELS)
    return np.stack(tables, axis=-1)


def _contrasted(operation: Any, image: np.ndarray) -> Optional[np.ndarray]:
    """Return the lookup table (256, 1) that blends an image with its mean grey value."""
    drawn = operation.random_magnitude() if operation.magnitude is None else operation.magnitude
    factor = 1 + operation.random_negative(drawn)
    mean = round(cv2.sumElems(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))[0] / image[..., 0].size)
    levels = _LEVELS.astype(np.float32)
    blended = cv2.addWeighted(levels, factor, np.full_like(levels, mean), 1 - factor, 0)
    return np.clip(blended, 0, 255).astype(np.uint8)


_TABLES: dict[type, Callable[[Any, np.ndarray], Optional[np.ndarray]]] = {
    mmpretrain_transforms.AutoContrast: _stretched,
    mmpretrain_transforms.Equalize: _equalized,
    mmpretrain_transforms.Contrast: _contrasted,
}
