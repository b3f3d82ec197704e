"""Crop or resize an image to ``img_size``, the shared config key of pipelines and streams."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Union

import mmcv
from mmcv.transforms import BaseTransform, CenterCrop, Resize
from mmpretrain.datasets.transforms import RandomResizedCrop, ResizeEdge

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import TRANSFORMS
from hybridcls.renames import keeps_old_spellings

from .antialiased_resize import ANTIALIASED, antialiased_resize

__all__ = ['CenterCropToSize', 'RandomCropToSize', 'ResizeToSize']

ImgSize = Union[int, Sequence[int]]


def _height_and_width(caller: str, img_size: ImgSize) -> tuple[int, int]:
    """Return ``img_size`` as (height, width) in pixels."""
    pair = (img_size, img_size) if isinstance(img_size, int) else img_size
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise TypeError(
            f'{caller}: expected img_size as a number of pixels or (height, width), got {img_size!r}. '
            'Set the top-level img_size of the config, such as 224 or (224, 160).'
        )
    for side in pair:
        check_number(caller, 'img_size', side, 1, integer=True, advice='Sizes are pixels.')
    return int(pair[0]), int(pair[1])


@TRANSFORMS.register_module()
@keeps_old_spellings
class RandomCropToSize(BaseTransform):
    """Crop a random part of the image and resize it: mmpretrain's ``RandomResizedCrop`` with the key ``img_size``.

    Reads ``img`` (H, W, 3), and ``planned_crops`` where ``LoadImage(decode_scale='crop')`` has drawn the part; writes
    ``img`` (height, width, 3) of the same dtype and ``img_shape``.

    Args:
        img_size (int | Sequence[int]): Output size in pixels: one number, or (height, width).
        crop_ratio_range (Sequence[float]): Smallest and largest share of the image's area, as mmpretrain's. Defaults
            to (0.08, 1.0).
        ratio (Sequence[float]): Smallest and largest width / height of the crop. Defaults to (3/4, 4/3).
        interpolation (str): ``'nearest'``, ``'bilinear'``, ``'bicubic'``, ``'area'`` or ``'lanczos'``.
            Defaults to ``'bilinear'``.
        backend (str): ``'cv2'``, ``'pillow'`` (which antialiases), or ``'torch'``: Pillow's pixels to one level of
            255, in a sixth of its time, with ``'bilinear'`` or ``'bicubic'``. Defaults to ``'cv2'``.

    Raises:
        TypeError: If ``img_size`` is not a size.
        ValueError: If a range is empty or not positive, or the backend does not have the interpolation.

    Example:
        >>> import numpy as np
        >>> crop = RandomCropToSize(img_size=(24, 32), crop_ratio_range=(0.5, 1.0))
        >>> crop(dict(img=np.zeros((100, 80, 3), np.uint8)))['img'].shape
        (24, 32, 3)
    """

    def __init__(
        self,
        img_size: ImgSize,
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = 'bilinear',
        backend: str = 'cv2',
    ) -> None:
        self.img_size = _height_and_width('RandomCropToSize', img_size)
        for name, given, most in (('crop_ratio_range', crop_ratio_range, 1.0), ('ratio', ratio, float('inf'))):
            if len(given) != 2 or not 0 < given[0] <= given[1] <= most:
                raise ValueError(
                    f'RandomCropToSize: expected {name} as 0 < smallest <= largest <= {most:g}, got {given!r}.'
                )
        check_choice('RandomCropToSize', 'backend', backend, ('cv2', 'pillow', 'torch'))
        if backend == 'torch':
            check_choice("RandomCropToSize (backend='torch')", 'interpolation', interpolation, ANTIALIASED)
        self.interpolation, self.backend = interpolation, backend
        self.crop = RandomResizedCrop(
            scale=self.img_size,
            crop_ratio_range=tuple(crop_ratio_range),
            aspect_ratio_range=tuple(ratio),
        )

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a crop (top, left, height, width) of an image of this size in pixels."""
        drawn: tuple[int, int, int, int] = self.crop.rand_crop_params(SimpleNamespace(shape=(height, width)))
        return drawn

    def transform(self, results: dict) -> dict:
        """Crop and resize ``results['img']``."""
        image, planned = results['img'], results.get('planned_crops')
        top, left, height, width = planned.pop(0) if planned else self.draw(*image.shape[:2])
        part = image[top : top + height, left : left + width]
        if self.backend == 'torch':
            results['img'] = antialiased_resize(part, *self.img_size, self.interpolation)
        else:
            results['img'] = mmcv.imresize(
                part, self.img_size[::-1], interpolation=self.interpolation, backend=self.backend
            )
        results['img_shape'] = results['img'].shape
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(img_size={self.img_size}, backend={self.backend!r}, crop={self.crop})'


@TRANSFORMS.register_module()
class CenterCropToSize(BaseTransform):
    """Resize the image to slightly more than ``img_size`` and crop the middle, as ImageNet models are evaluated.

    Reads ``img`` (H, W, 3); writes ``img`` (height, width, 3) of the same dtype, ``img_shape`` and the keys of
    ``ResizeEdge`` (``scale``, ``scale_factor``).

    Args:
        img_size (int | Sequence[int]): Output size in pixels: one number, or (height, width).
        crop_pct (float): The share of the resized image's shorter edge to keep, in (0, 1]: 0.875 resizes to 256 and
            crops 224. 1.0 crops only the longer edge. Defaults to 0.875.
        mode (str): ``'crop'`` keeps the aspect ratio; ``'squash'`` does not, and with ``crop_pct=1.0`` it keeps the
            whole image. Defaults to ``'crop'``.
        interpolation (str): As in :class:`RandomCropToSize`. Defaults to ``'bicubic'``.
        backend (str): ``'cv2'`` or ``'pillow'``. Defaults to ``'pillow'``, which antialiases, as in the training of
            the pretrained models.

    Raises:
        TypeError: If ``img_size`` is not a size.
        ValueError: If ``crop_pct`` or ``mode`` is out of range.

    Example:
        >>> import numpy as np
        >>> crop = CenterCropToSize(img_size=224)
        >>> crop(dict(img=np.zeros((300, 500, 3), np.uint8)))['img'].shape
        (224, 224, 3)
    """

    def __init__(
        self,
        img_size: ImgSize,
        crop_pct: float = 0.875,
        mode: str = 'crop',
        interpolation: str = 'bicubic',
        backend: str = 'pillow',
    ) -> None:
        check_number('CenterCropToSize', 'crop_pct', crop_pct, 0, 1, low_open=True)
        check_choice('CenterCropToSize', 'mode', mode, ('crop', 'squash'))
        self.img_size = _height_and_width('CenterCropToSize', img_size)
        self.crop_pct = crop_pct
        self.mode = mode
        height, width = self.img_size
        # Rounded down as timm does, so that 224 at 0.9 is resized to 248 here as well.
        self.resized = (int(height / crop_pct), int(width / crop_pct))
        how = dict(interpolation=interpolation, backend=backend)
        self.resize_height = ResizeEdge(self.resized[0], edge='height', **how)
        self.resize_width = ResizeEdge(self.resized[1], edge='width', **how)
        self.squash = Resize(self.resized[::-1], keep_ratio=False, **how)
        self.crop = CenterCrop((width, height))

    def transform(self, results: dict) -> dict:
        """Resize ``results['img']`` and crop its middle."""
        if self.mode == 'squash':
            resize = self.squash
        else:
            height, width = results['img'].shape[:2]
            # Resize by the edge that is shorter relative to img_size; the other one is cropped.
            wide = width * self.resized[0] >= height * self.resized[1]
            resize = self.resize_height if wide else self.resize_width
        return self.crop.transform(resize.transform(results))

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_size={self.img_size}, crop_pct={self.crop_pct}, mode={self.mode!r}, '
            f'resized={self.resized})'
        )


@TRANSFORMS.register_module()
class ResizeToSize(BaseTransform):
    """Resize the whole image to ``img_size``, without keeping the aspect ratio.

    Reads ``img`` (H, W, 3); writes ``img`` (height, width, 3) of the same dtype, ``img_shape`` and the keys of
    mmcv's ``Resize``.

    Args:
        img_size (int | Sequence[int]): Output size in pixels: one number, or (height, width).
        interpolation (str): As in :class:`RandomCropToSize`. Defaults to ``'bilinear'``.
        backend (str): ``'cv2'`` or ``'pillow'``. Defaults to ``'cv2'``.

    Raises:
        TypeError: If ``img_size`` is not a size.

    Example:
        >>> import numpy as np
        >>> ResizeToSize(img_size=32)(dict(img=np.zeros((8, 8, 3), np.uint8)))['img'].shape
        (32, 32, 3)
    """

    def __init__(self, img_size: ImgSize, interpolation: str = 'bilinear', backend: str = 'cv2') -> None:
        self.img_size = _height_and_width('ResizeToSize', img_size)
        self.resize = Resize(self.img_size[::-1], keep_ratio=False, interpolation=interpolation, backend=backend)

    def transform(self, results: dict) -> dict:
        """Resize ``results['img']``."""
        return self.resize.transform(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(img_size={self.img_size})'
