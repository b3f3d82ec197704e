"""Resize 8-bit images as Pillow does, to within one level, in a fraction of its time."""

import numpy as np
import torch
from torch.nn.functional import interpolate

__all__ = ['ANTIALIASED', 'antialiased_resize']

ANTIALIASED = ('bilinear', 'bicubic')


def antialiased_resize(image: np.ndarray, height: int, width: int, interpolation: str = 'bicubic') -> np.ndarray:
    """Resize an image with an antialiasing filter, whose support grows as the image shrinks.

    It is torch's kernel for 8 bits, which was written after Pillow's: values differ by one level at most, and by two
    where it enlarges.

    Args:
        image (np.ndarray): (H, W, C) or (H, W), uint8, whatever its strides.
        height (int): Pixels of the result.
        width (int): Pixels of the result.
        interpolation (str): ``'bilinear'`` or ``'bicubic'``. Defaults to ``'bicubic'``.

    Returns:
        np.ndarray: (height, width, C) or (height, width), uint8, contiguous.

    Example:
        >>> antialiased_resize(np.full((40, 50, 3), 7, np.uint8), 8, 9).shape
        (8, 9, 3)
    """
    if image.ndim == 2:
        return antialiased_resize(image[..., None], height, width, interpolation)[..., 0]
    if not image.flags.writeable:  # torch has no tensors that must not be written to, and warns
        image = image.copy()
    # The batch first: its stride then belongs to channels last, which the kernel reads and writes without transposing.
    pixels = torch.from_numpy(image).unsqueeze(0).permute(0, 3, 1, 2)
    resized = interpolate(pixels, size=(height, width), mode=interpolation, antialias=True, align_corners=False)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())
