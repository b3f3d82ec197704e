"""Measure image statistics: brightness, colourfulness, sharpness, size, and properties of the file."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine import fileio
from PIL import Image, ImageOps

from .image_formats import is_transparent, register_decoders

__all__ = ['ImageMeasures', 'measure_image', 'measure_images']

_SIDE = 256  # pixels, of the longer side: what is sharp does not depend on the number of pixels of the camera
_CAMERA = 0x0110  # of EXIF: Model
_GREY = 0.02  # mean saturation
# The sum of the luminance table that JPEG's standard suggests, which quality 50 of libjpeg stands for.
_TABLE_SUM = 3688


class ImageMeasures(NamedTuple):
    """Image statistics; NaN and ``''`` are unknown.

    Args:
        brightness (float): Mean luma, from 0 (black) to 1.
        contrast (float): Standard deviation of the luma, from 0 to 0.5.
        saturation (float): Mean saturation (HSV), from 0 (grey) to 1.
        sharpness (float): Standard deviation of the Laplacian of the luma, of the image shrunk to 256 pixels.
        shorter_side (float): In pixels.
        aspect_ratio (float): Width over height, turned as the EXIF data say.
        jpeg_quality (float): On libjpeg's scale from 1 to 100, by the quantization table; NaN of other formats.
        grey (str): ``'yes'`` or ``'no'``.
        format (str): Pillow's name of the format.
        camera (str): The model, of the EXIF data.
    """

    brightness: float
    contrast: float
    saturation: float
    sharpness: float
    shorter_side: float
    aspect_ratio: float
    jpeg_quality: float = float('nan')
    grey: str = 'no'
    format: str = ''
    camera: str = ''


def measure_images(sources: Sequence[Any]) -> list[Optional[ImageMeasures]]:
    """Measure images in threads, in order; see :func:`measure_image`."""
    register_decoders()  # before threads do
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # decoding releases Python's lock
        return list(pool.map(measure_image, sources))


def measure_image(source: Any) -> Optional[ImageMeasures]:
    """Measure the statistics of an image.

    Args:
        source: A path on any of mmengine's backends, the bytes of a file, or an image of Pillow.

    Returns:
        ImageMeasures | None: None for what cannot be read.

    Example:
        >>> white = measure_image(Image.new('RGB', (60, 30), 'white'))
        >>> white.brightness, white.contrast, white.aspect_ratio, white.grey
        (1.0, 0.0, 2.0, 'yes')
    """
    register_decoders()
    try:
        if isinstance(source, Image.Image):
            return _measured(source)
        content = fileio.get(source) if isinstance(source, (str, os.PathLike)) else source
        return _measured(Image.open(io.BytesIO(content)))
    except Exception:  # Pillow raises errors of many types on broken files
        return None


def _measured(file: Image.Image) -> ImageMeasures:
    exif = file.getexif()
    tables = getattr(file, 'quantization', None)
    size, name = file.size, file.format or ''
    file.draft('RGB', (_SIDE, _SIDE))
    image = ImageOps.exif_transpose(file)
    if exif.get(0x0112, 1) in (5, 6, 7, 8):
        size = size[::-1]
    if image.mode.startswith(('I', 'F')):  # of 16 bits
        image = image.convert('F').point(lambda value: value / 256).convert('L')
    if is_transparent(image):
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))
    image = image.convert('RGB')
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    luma = np.asarray(image.convert('L'), dtype=np.float64) / 255
    saturation = float(np.asarray(image.convert('HSV'))[..., 1].mean() / 255)
    edges = np.pad(luma, 1, mode='edge')
    laplacian = edges[:-2, 1:-1] + edges[2:, 1:-1] + edges[1:-1, :-2] + edges[1:-1, 2:] - 4 * luma
    return ImageMeasures(
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        saturation=saturation,
        sharpness=float(laplacian.std()),
        shorter_side=float(min(size)),
        aspect_ratio=size[0] / size[1],
        jpeg_quality=_quality(tables[0]) if tables and 0 in tables else float('nan'),
        grey='yes' if saturation < _GREY else 'no',
        format=name,
        camera=str(exif.get(_CAMERA, '')).strip('\0 '),
    )


def _quality(table: Sequence[int]) -> float:
    """Return the libjpeg quality whose luminance table is equally coarse."""
    scale = 100 * sum(table) / _TABLE_SUM
    return float(round(5000 / scale if scale > 100 else (200 - scale) / 2))
