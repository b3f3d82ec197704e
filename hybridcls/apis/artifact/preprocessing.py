"""Describe the test preprocessing (decoding, resizing, cropping) for a sidecar."""

from collections.abc import Sequence
from typing import Any, Optional

import cv2
import numpy as np
from mmcv.transforms import CenterCrop, LoadImageFromFile, Resize
from mmpretrain.datasets.transforms import PackInputs, ResizeEdge
from PIL import Image

from hybridcls.checks import check_choice
from hybridcls.datasets.transforms import CenterCropToSize, LoadImage, ResizeToSize
from hybridcls.datasets.transforms.decoding import BACKGROUNDS
from hybridcls.datasets.transforms.mark_unknown import MarkUnknown

from ..trained_model import TrainedModel

__all__ = ['preprocessing_of', 'preprocessing_of_transforms']

FILTERS = dict(
    cv2=('nearest', 'bilinear', 'bicubic', 'area'),
    pillow=('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming'),
)
"""What ``runtime.py`` computes as the library does."""


def preprocessing_of(trained: TrainedModel) -> dict[str, Any]:
    """Describe the pipeline of a trained model for a sidecar: ``decode``, ``steps`` and ``size`` (height, width).

    Raises:
        ValueError: If the pipeline has a transform, or one of its options, that ``runtime.py`` does not have; names it.
    """
    return preprocessing_of_transforms(trained.pipeline.transforms)


def preprocessing_of_transforms(transforms: Sequence[Any]) -> dict[str, Any]:
    """Describe the transforms of a test, from reading an image to packing it; see :func:`preprocessing_of`."""
    decode: Optional[dict[str, Any]] = None
    steps: list[dict[str, Any]] = []
    for transform in transforms:
        if isinstance(transform, (PackInputs, MarkUnknown)):
            continue
        if isinstance(transform, (LoadImage, LoadImageFromFile)):
            decode = _decode(transform)
        else:
            steps += _steps(transform)
    if decode is None:
        raise ValueError('export: expected a pipeline that begins with LoadImage, got one that reads no image.')
    return dict(decode=decode, steps=steps, size=_size(steps))


def _decode(loader: Any) -> dict[str, Any]:
    name = type(loader).__name__
    if isinstance(loader, LoadImageFromFile):
        raise ValueError(
            'export: expected LoadImage in the pipeline, got LoadImageFromFile. Write LoadImage(version=1), which '
            'reads the same pixels: --config FILE names another config.'
        )
    if loader.color_type not in ('color', 'color_ignore_orientation'):
        raise ValueError(
            f"export: expected color_type='color' in {name}, got {loader.color_type!r}: runtime.py reads RGB."
        )
    backend = loader.imdecode_backend
    is_old = loader.version == 1
    check_choice(f'export: {name}', 'imdecode_backend', backend, ('cv2',) if is_old else ('cv2', 'pillow'))
    if is_old:
        background, depth = None, 'upper'
    else:
        given = loader.transparency
        color = BACKGROUNDS.get(given) if isinstance(given, str) else given
        background, depth = None if color is None else list(color)[::-1], loader.depth
    return dict(
        background=background,
        exif=not loader.color_type.endswith('ignore_orientation'),
        depth=depth,
        gray=False,
        cmyk=backend,
        decoder=_decoder(backend),
    )


def _decoder(backend: str) -> str:
    """Name the library that decoded JPEGs here, and its version."""
    return f'OpenCV {cv2.__version__}' if backend == 'cv2' else f'Pillow {Image.__version__}'


def _steps(transform: Any) -> list[dict[str, Any]]:
    if isinstance(transform, CenterCropToSize):
        size = list(transform.resized)
        if transform.mode == 'squash':
            resize = dict(op='resize', size=size)
        else:
            resize = dict(op='resize_edge', edge='cover', size=size)
        return [resize | _how(transform.squash), dict(op='center_crop', size=list(transform.img_size))]
    if isinstance(transform, ResizeToSize):
        return _steps(transform.resize)
    if isinstance(transform, ResizeEdge):
        return [dict(op='resize_edge', edge=transform.edge, size=int(transform.scale)) | _how(transform)]
    if type(transform) is Resize and not transform.keep_ratio and transform.scale is not None:
        return [dict(op='resize', size=list(map(int, transform.scale[::-1]))) | _how(transform)]
    if isinstance(transform, CenterCrop) and not transform.auto_pad:
        return [dict(op='center_crop', size=list(map(int, transform.crop_size[::-1])))]
    raise ValueError(
        f'export: expected a test whose images come from LoadImage and go through CenterCropToSize, ResizeToSize '
        f'or ResizeEdge and CenterCrop, got {transform}, which runtime.py lacks.'
    )


def _how(transform: Any) -> dict[str, Any]:
    """Return the filter of a resizing transform, and the library whose arithmetic it uses."""
    name, library, kind = type(transform).__name__, transform.backend, transform.interpolation
    check_choice(f'export: {name}', 'backend', library, FILTERS)
    check_choice(f'export: {name} (backend={library!r})', 'interpolation', kind, FILTERS[library])
    how = dict(filter=kind, library=library)
    return how | dict(arithmetic=_cubic_arithmetic()) if (library, kind) == ('cv2', 'bicubic') else how


def _cubic_arithmetic() -> str:
    """Return whether OpenCV computes bicubic filters here in floats (Intel's IPP) or with 11-bit weights."""
    spike = np.zeros((64, 64, 3), np.uint8)
    spike[::2, ::3], spike[1::3, 1::2] = 255, 200
    seen = cv2.resize(spike, (100, 100), interpolation=cv2.INTER_CUBIC)
    from .shipped.runtime import resize

    off = {
        kind: int((resize(spike, 100, 100, dict(library='cv2', filter='bicubic', arithmetic=kind)) != seen).sum())
        for kind in ('float', 'fixed')
    }
    return min(off, key=lambda kind: off[kind])


def _size(steps: list[dict[str, Any]]) -> list[int]:
    """Return the height and width after all steps, the same for every image."""
    size: Optional[list[int]] = None  # of all images
    least = [0, 0]  # what each has at least
    for step in steps:
        wanted = step['size']
        if step['op'] == 'resize':
            size = least = wanted
        elif step['op'] == 'resize_edge':
            sides = {'short': [wanted, wanted], 'height': [wanted, 0], 'width': [0, wanted], 'cover': wanted}
            size, least = None, sides.get(step['edge'], [0, 0])
        elif all(has >= want for has, want in zip(least, wanted, strict=True)):
            size = least = wanted
        elif size is not None:
            size = least = [min(pair) for pair in zip(size, wanted, strict=True)]
    if size is None:
        raise ValueError(
            'export: expected a test that gives all images one size, got one that does not: a network that is exported '
            'takes one. End the pipeline with CenterCropToSize or ResizeToSize, or crop no more than ResizeEdge leaves.'
        )
    return list(map(int, size))
