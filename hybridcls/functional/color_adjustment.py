"""Adjust brightness, contrast, saturation and hue of a batch, with a separate factor for each image."""

import torch
from torch import Tensor

__all__ = ['adjust_brightness', 'adjust_contrast', 'adjust_hue', 'adjust_saturation', 'grayscale']


def grayscale(images: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB images (B, 3, H, W), by the weights of ITU-R 601."""
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply images (B, 3, H, W) in [0, 1] by factors (B,), and clip."""
    return (images * _per_image(factors)).clamp(0, 1)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blend images (B, 3, H, W) in [0, 1] with their mean grey value: factor 0 gives the grey value, 1 the image."""
    mean = grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(images), images, _per_image(factors)).clamp(0, 1)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Blend images (B, 3, H, W) in [0, 1] with their grey images: factor 0 removes the colours."""
    return torch.lerp(grayscale(images).expand_as(images), images, _per_image(factors)).clamp(0, 1)


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift the hue of RGB images (B, 3, H, W) in [0, 1] by (B,) in [-0.5, 0.5] of the circle.

    From RGB to HSV and back; a channel is the value less the chroma times a trapezoid of its distance from the hue.
    """
    red, green, blue = images.unbind(1)
    value, chroma = images.amax(1), images.amax(1) - images.amin(1)
    divisor = chroma.clamp_min(torch.finfo(images.dtype).tiny)
    between = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = torch.where(value == red, (green - blue) / divisor, between) + 6 * shifts.to(images)[:, None, None]
    positions = torch.stack([(hue + start) % 6 for start in (5, 3, 1)], dim=1)
    distance = torch.minimum(positions, 4 - positions).clamp(0, 1)
    return value.unsqueeze(1) - chroma.unsqueeze(1) * distance


def _per_image(factors: Tensor) -> Tensor:
    return factors[:, None, None, None]
