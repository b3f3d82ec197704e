"""Decode an image file, or convert a Pillow image, to 8 bits a channel without transparency."""

import io
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import cv2
import mmcv
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..image_formats import image_header, is_transparent, register_decoders

__all__ = ['Decoded', 'ImageDepthError', 'decode', 'decode_jpeg_at', 'from_pillow', 'to_eight_bits']

BACKGROUNDS = {'white': (255, 255, 255), 'black': (0, 0, 0)}
# Below a quarter of the range, most of the 256 grey levels would be lost: the values have 14 bits or fewer.
_SUSPICIOUS = 2**14
# OpenCV decodes these correctly. Of the rest, it does not rotate AVIF or scale PNM, or cannot read the file.
_OPENCV_FORMATS = ('PNG', 'WEBP', 'BMP', 'TIFF')


class ImageDepthError(ValueError):
    """The image has more than 8 bits a channel, and its values do not tell how to scale them to 8."""


class Decoded(NamedTuple):
    """A decoded image, and how it was converted.

    Args:
        image (np.ndarray): (H, W, 3) BGR or (H, W) grey, uint8.
        blended (bool): Whether a part was transparent and shows the background.
        emptied (bool): Whether the image has one colour on that background.
        reduced (bool): Whether it had more than 8 bits a channel.
    """

    image: np.ndarray
    blended: bool = False
    emptied: bool = False
    reduced: bool = False


def decode(
    content: bytes, color_type: str, backend: str, transparency: Union[str, Sequence[int]], depth: Union[str, int]
) -> Decoded:
    """Decode an image file: JPEG by ``backend``, other formats by OpenCV or Pillow as the header requires.

    Args:
        content (bytes): The file.
        color_type (str): ``'color'`` or ``'grayscale'``, with ``'_ignore_orientation'`` or without.
        backend (str): Decoder of mmcv for images of 8 opaque bits.
        transparency (str | Sequence[int]): ``'white'``, ``'black'``, ``'drop'`` or (B, G, R).
        depth (str | int): As in :func:`to_eight_bits`.

    Returns:
        Decoded: The image, rotated by its EXIF orientation unless ``color_type`` ignores it.

    Raises:
        ImageDepthError: If the depth is ambiguous.
        Exception: What the decoders raise for broken files.
    """
    if content.startswith(b'\xff\xd8'):
        return Decoded(mmcv.imfrombytes(content, color_type, backend=backend))
    register_decoders()
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # OpenCV reads a few formats that Pillow does not
        return Decoded(mmcv.imfrombytes(content, color_type, backend=backend))
    header = image_header(image, content[:25])
    if header.bits > 16:
        raise ValueError('expected 8 or 16 bits a channel, got 32, whose range is unknown: convert it')
    if header.bits > 8 and header.format in ('PNG', 'TIFF'):
        return _decode_deep(content, color_type, image, header.transparent, transparency, depth)
    if header.bits <= 8 and header.format in _OPENCV_FORMATS and not header.transparent:
        return Decoded(mmcv.imfrombytes(content, color_type, backend=backend))
    return from_pillow(image, color_type, transparency, 16)  # here Pillow scales files with fewer bits


def decode_jpeg_at(content: bytes, scale: int, color_type: str) -> Optional[np.ndarray]:
    """Decode a JPEG at 1 / scale of its size, from the lowest frequencies of each 8 x 8 block.

    Args:
        content (bytes): The file.
        scale (int): 2, 4 or 8.
        color_type (str): As in :func:`decode`.

    Returns:
        np.ndarray: (ceil(H / scale), ceil(W / scale), 3) BGR, or grey without channels, uint8; None if it is broken.
    """
    colors = 'GRAYSCALE' if color_type.startswith('grayscale') else 'COLOR'
    flags = getattr(cv2, f'IMREAD_REDUCED_{colors}_{scale}')
    if color_type.endswith('_ignore_orientation'):
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def from_pillow(
    image: Image.Image, color_type: str, transparency: Union[str, Sequence[int]], depth: Union[str, int]
) -> Decoded:
    """Convert a Pillow image to an array; the arguments are those of :func:`decode`.

    Only an image opened from a file and not modified since is rotated by its EXIF orientation: Pillow's operations keep
    the tag, even where they rotate the image.
    """
    if not color_type.endswith('_ignore_orientation') and getattr(image, 'format', None) is not None:
        image = ImageOps.exif_transpose(image)
    deep = image.mode[0] in 'IF'  # I and I;16 are integers, F is floats
    if deep:
        values = np.asarray(image)
        if image.mode == 'F' or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ImageDepthError(
                f'expected 8 or 16 bits a channel, got mode {image.mode} of Pillow, whose range is unknown. Convert '
                'it to 8 bits.'
            )
        image = Image.fromarray(to_eight_bits(values.astype(np.uint16), depth))
    grey = color_type.startswith('grayscale')
    if is_transparent(image):
        image = image.convert('RGBA')
        mask = image.getchannel('A')
        opacity = np.asarray(mask)
        if transparency != 'drop' and opacity.min(initial=255) < 255:
            blue, green, red = BACKGROUNDS[transparency] if isinstance(transparency, str) else transparency
            canvas = Image.new('RGB', image.size, (red, green, blue))
            canvas.paste(image, mask=mask)
            array = _array(canvas, grey)
            emptied = bool(opacity.any() and (array == array[0, 0]).all())
            return Decoded(array, blended=True, emptied=emptied, reduced=deep)
    return Decoded(_array(image, grey), reduced=deep)


def _array(image: Image.Image, grey: bool) -> np.ndarray:
    array = np.asarray(image.convert('L' if grey else 'RGB'))
    return np.ascontiguousarray(array if grey else array[..., ::-1])


def _decode_deep(
    content: bytes,
    color_type: str,
    image: Image.Image,
    transparent: bool,
    transparency: Union[str, Sequence[int]],
    depth: Union[str, int],
) -> Decoded:
    """Decode PNG or TIFF of 16 bits, which Pillow does not fully support."""
    encoded = np.frombuffer(content, np.uint8)
    if not transparent:
        flags = mmcv.image.io.imread_flags[color_type] | cv2.IMREAD_ANYDEPTH
        deep = cv2.imdecode(encoded, flags)
        if deep is None:
            raise ValueError('OpenCV cannot decode it')
        return Decoded(to_eight_bits(deep, depth), reduced=True)
    deep = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if deep is None or deep.ndim != 3 or deep.shape[2] != 4:
        raise ValueError('expected a 16-bit grey or colour image with an alpha channel, got another layout')
    alpha = to_eight_bits(deep[..., 3], 16)
    bgr = to_eight_bits(deep[..., :3], depth)
    shallow = Image.fromarray(np.dstack([bgr[..., ::-1], alpha]))
    orientation = image.getexif().get(0x0112, 1)
    if image.format == 'PNG' and not color_type.endswith('_ignore_orientation'):  # OpenCV has rotated TIFF
        shallow.getexif()[0x0112] = orientation
        shallow = ImageOps.exif_transpose(shallow)
    return from_pillow(shallow, color_type, transparency, depth)._replace(reduced=True)


def to_eight_bits(values: np.ndarray, depth: Union[str, int]) -> np.ndarray:
    """Scale 16-bit values to the range of 8 bits, rounding.

    Args:
        values (np.ndarray): uint16, any shape.
        depth (str | int): Number of significant bits, 9 to 16: 12 scales 4,095 to 255. ``'check'``: 16, with an error
            where that would waste the range. ``'max'``: scale the largest value of the image to 255.

    Returns:
        np.ndarray: uint8, the same shape.

    Raises:
        ImageDepthError: If a value has more bits than ``depth``; with ``'check'``, if no value reaches 2 ** 14.

    Example:
        >>> to_eight_bits(np.array([0, 257, 65535], np.uint16), 16).tolist()
        [0, 1, 255]
        >>> to_eight_bits(np.array([0, 2048, 4095], np.uint16), 12).tolist()
        [0, 128, 255]
    """
    largest = int(values.max(initial=0))
    if depth == 'check' and 0 < largest < _SUSPICIOUS:
        raise ImageDepthError(
            f'expected 16-bit values above {_SUSPICIOUS - 1}, got at most {largest}, which leaves {largest // 256 + 1} '
            f'of 256 levels. Set depth in LoadImage: depth={max(9, largest.bit_length())} for values of that range, '
            "depth=16 for dark images, or depth='max' to scale each image by its largest value."
        )
    if isinstance(depth, int) and largest >= 2**depth:
        raise ImageDepthError(
            f'expected values below {2**depth} for depth={depth}, got {largest}. Set depth in LoadImage to the number '
            'of significant bits.'
        )
    full = 2**depth - 1 if isinstance(depth, int) else 65535 if depth == 'check' else max(1, largest)
    scaled = np.multiply(values, 255 / full, dtype=np.float32)
    return np.rint(scaled, out=scaled).astype(np.uint8)
