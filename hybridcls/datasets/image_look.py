"""Scan an image file: whether it can be read, its header, and a signature of its content."""

import hashlib
import io
import os
from functools import lru_cache
from typing import NamedTuple, Optional

import numpy as np
from mmengine import fileio
from PIL import Image, ImageOps

from .image_formats import ImageHeader, image_header, is_transparent, register_decoders

__all__ = ['FREQUENCIES', 'ImageLook', 'look_at']

FREQUENCIES = 12
"""Of the cosine transform, down and across, that a signature holds."""
_SIDE = 32  # pixels
# A flat image has no signature: what is left of it is noise.
_FLAT = 1.0  # standard deviation, in grey levels of 256
_COLORED = 0.01  # of the brightness
_ORIENTATION = 0x0112  # EXIF
_PNG_END = b'IEND\xaeB`\x82'
_OF_FRAMES = ('GIF', 'TIFF', 'PNG', 'WEBP', 'AVIF')
_REMEMBERED = 30_000  # images, of a kilobyte each


class ImageLook(NamedTuple):
    """The result of scanning a file.

    Args:
        problem (str): Why Pillow cannot read it; ``''`` if it can.
        size (tuple[int, int]): Width and height in pixels, before any rotation; (0, 0) without a header.
        header (ImageHeader, optional): Format, colours and depth.
        is_rotated (bool): Whether its EXIF data turn or mirror it.
        digest (str): Of the bytes; equal ones are the same file.
        frames (int): How many images the file holds: those of an animation, pages; 1 for a photograph with a preview.
        signature (np.ndarray, optional): 151 numbers, float32, that are close (Euclidean distance) for images that look
            the same: the low frequencies of the cosine transform of the brightness, at 32 x 32 pixels and without the
            mean, and fewer of the colours; the brightness has length 1. None for an image of one colour.
    """

    problem: str
    size: tuple[int, int] = (0, 0)
    header: Optional[ImageHeader] = None
    is_rotated: bool = False
    digest: str = ''
    frames: int = 1
    signature: Optional[np.ndarray] = None

    @property
    def is_flat(self) -> bool:
        """Whether the image has a single colour."""
        return not self.problem and self.signature is None

    @property
    def is_colored(self) -> bool:
        """Whether the image, at a low resolution, has colours other than greys."""
        return self.signature is not None and bool(np.abs(self.signature[FREQUENCIES**2 - 1 :]).max() > _COLORED)


def look_at(path: str) -> ImageLook:
    """Scan an image file on any of mmengine's backends; an unchanged file is read only once.

    JPEG is decoded at a reduced size: all of its bytes are read, so that a truncated file is found.
    """
    try:
        status = os.stat(path)
    except OSError:
        return _look(path, 0, 0)
    return _look(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_REMEMBERED)
def _look(path: str, size: int, changed: int) -> ImageLook:
    register_decoders()
    look = ImageLook('')
    try:
        content = fileio.get(path)
        look = look._replace(digest=hashlib.sha1(content, usedforsecurity=False).hexdigest())
        file = Image.open(io.BytesIO(content))
        turned = file.getexif().get(_ORIENTATION, 1) not in (0, 1)
        look = look._replace(size=file.size, header=image_header(file, content[:25]), is_rotated=turned)
        if file.format in _OF_FRAMES:
            look = look._replace(frames=getattr(file, 'n_frames', 1))
            file.seek(0)
        file.draft('RGB', (2 * _SIDE, 2 * _SIDE))
        look = look._replace(signature=_signature_of(file))
        if file.format == 'PNG' and _PNG_END not in content:  # which Pillow does without, and OpenCV does not
            look = look._replace(problem='the end of the file is missing')
        return look
    except Exception as error:  # Pillow raises errors of many types on broken files
        return look._replace(problem=f'{str(error) or type(error).__name__}')


def _signature_of(file: Image.Image) -> Optional[np.ndarray]:
    from scipy.fft import dctn

    image = ImageOps.exif_transpose(file)
    if is_transparent(image):
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image.convert('RGBA'))
    if image.mode.startswith(('I', 'F')):  # 16 bits or more, which would be clipped to white
        image = image.convert('F').resize((_SIDE, _SIDE), Image.Resampling.BOX)
        largest = float(np.asarray(image).max())
        if not largest > 0:
            return None
        scale = 255 / largest
        image = image.point(lambda value: value * scale).convert('L')
    small = image.convert('RGB').resize((_SIDE, _SIDE), Image.Resampling.BOX).convert('YCbCr')
    frequencies = dctn(np.asarray(small, dtype=np.float32), axes=(0, 1), norm='ortho')
    brightness = frequencies[:FREQUENCIES, :FREQUENCIES, 0].ravel()[1:]
    colors = frequencies[:2, :2, 1:].ravel() - np.array([128 * _SIDE] * 2 + [0] * 6, dtype=np.float32)
    norm = np.linalg.norm(brightness)
    if norm < _FLAT * _SIDE:
        return None
    return (np.concatenate([brightness, colors]) / norm).astype(np.float32)
