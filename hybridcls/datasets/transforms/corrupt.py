"""Corrupt images as cameras, networks and weather do, in five severities, to test robustness."""

from collections.abc import Callable
from typing import Any, Optional

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torchvision.transforms.v2 import functional as F

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import TRANSFORMS

__all__ = ['CORRUPTIONS', 'SEVERITIES', 'Corrupt']

SEVERITIES = (1, 2, 3, 4, 5)

# The strengths of ImageNet-C where it has the corruption (https://arxiv.org/abs/1903.12261, code hendrycks/robustness,
# make_imagenet_c.py); its brightness is added to the value of HSV, where torchvision multiplies the colours.
_STRENGTHS = {
    'blur': (1.0, 2.0, 3.0, 4.0, 6.0),  # standard deviation in pixels of an image of 224
    'noise': (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, of colours in [0, 1]
    'jpeg': (25, 18, 15, 10, 7),  # quality
    'brightness': (1.2, 1.4, 1.6, 1.8, 2.0),  # factor
    'resolution': (0.6, 0.5, 0.4, 0.3, 0.25),  # of the size
}
CORRUPTIONS = tuple(_STRENGTHS)


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupt ``img`` (H, W, C), uint8, after resizing and before packing.

    - ``'blur'``: Gaussian blur; the standard deviation is 1, 2, 3, 4, 6 pixels of an image of 224, and proportional to
      the shorter side.
    - ``'noise'``: Gaussian noise of each colour of each pixel; standard deviation 0.08 to 0.38 of the range.
    - ``'jpeg'``: compression with the quality 25, 18, 15, 10, 7.
    - ``'brightness'``: colours times 1.2 to 2, those above white are white.
    - ``'resolution'``: 0.6 to 0.25 of the size, and back.

    Blur, brightness and sizes are torchvision's (v2), and so are the values of the noise. That of an image depends on
    its place in the dataset, the kind, the severity and ``seed`` alone: several processes or threads, or another batch
    size, give the same images.

    ``CorruptionTestLoop`` puts it into the pipeline of a test, and changes kind and severity.

    Args:
        kind (str, optional): One of the five; None changes nothing. Defaults to None.
        severity (int): From 1 to 5. Defaults to 3.
        seed (int): Of the noise. Defaults to 0.

    Raises:
        ValueError: If a key is out of range.
        TypeError: For an image that is not of 8 bits.

    Example:
        >>> image = np.full((8, 8, 3), 100, np.uint8)
        >>> int(Corrupt('brightness', severity=5)(dict(img=image))['img'].max())
        200
    """

    def __init__(self, kind: Optional[str] = None, severity: int = 3, seed: int = 0) -> None:
        self.seed = seed
        self.set(kind, severity)

    def set(self, kind: Optional[str], severity: int) -> None:
        """Set kind and severity."""
        if kind is not None:
            check_choice('Corrupt', 'kind', kind, CORRUPTIONS)
        check_number('Corrupt', 'severity', severity, 1, 5, integer=True)
        self.kind = kind
        self.severity = severity

    def transform(self, results: dict) -> dict:
        """Corrupt ``img``."""
        if self.kind is None:
            return results
        image = results['img']
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(
                f'Corrupt: expected an image of 8 bits (uint8), got {found}. Put it before transforms that '
                'make views, or that normalize colours.'
            )
        strength = _STRENGTHS[self.kind][self.severity - 1]
        seed = (self.seed, results.get('sample_idx', 0), CORRUPTIONS.index(self.kind), self.severity)
        results['img'] = _CHANGES[self.kind](image, strength, seed)
        return results

    def __repr__(self) -> str:
        """Show the settings."""
        return f'Corrupt(kind={self.kind!r}, severity={self.severity}, seed={self.seed})'


def _in_torch(change: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    """Wrap a corruption of a tensor (C, H, W), uint8 or in [0, 1], for arrays (H, W, C) or (H, W)."""

    def changed(image: np.ndarray, strength: float, seed: tuple[int, ...]) -> np.ndarray:
        planes = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)
        return change(planes, strength, seed).permute(1, 2, 0).contiguous().numpy().reshape(image.shape)

    return changed


def _blur(planes: torch.Tensor, strength: float, seed: Any) -> torch.Tensor:
    sigma = strength * min(planes.shape[1:]) / 224
    # Three standard deviations on each side; the reflected border must be smaller than the image.
    radius = min(max(1, round(3 * sigma)), min(planes.shape[1:]) - 1)
    return F.gaussian_blur(planes, [2 * radius + 1] * 2, [sigma, sigma]) if radius else planes


def _noise(planes: torch.Tensor, strength: float, seed: tuple[int, ...]) -> torch.Tensor:
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    colours = planes.float() / 255
    # A generator of its own, since images are read by threads that share the global one.
    noise = torch.empty_like(colours).normal_(generator=torch.Generator().manual_seed(number))
    noisy = (colours + strength * noise).clamp(0, 1)
    return (255 * noisy).round().to(torch.uint8)


def _resolution(planes: torch.Tensor, strength: float, seed: Any) -> torch.Tensor:
    size = list(planes.shape[1:])
    return F.resize(F.resize(planes, [max(1, round(strength * side)) for side in size], antialias=True), size)


def _jpeg(image: np.ndarray, strength: float, seed: Any) -> np.ndarray:
    # torchvision's decoder of JPEG is deprecated since 0.29; OpenCV calls the same library.
    coded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, int(strength)])[1]
    decoded: Any = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    return decoded.reshape(image.shape)


_CHANGES = {
    'blur': _in_torch(_blur),
    'noise': _in_torch(_noise),
    'jpeg': _jpeg,
    'brightness': _in_torch(lambda planes, strength, seed: F.adjust_brightness(planes, strength)),
    'resolution': _in_torch(_resolution),
}
