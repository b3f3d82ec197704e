"""List the image formats that the installed decoders can read, and describe an image by its header."""

import importlib
import importlib.util
from functools import lru_cache
from typing import NamedTuple, Optional

import cv2
from PIL import Image, features
from PIL.TiffImagePlugin import TiffImageFile

__all__ = [
    'UNKNOWN_KIND', 'ImageHeader', 'file_kind', 'image_header', 'is_transparent', 'missing_decoder',
    'readable_extensions', 'register_decoders',
]  # fmt: skip

UNKNOWN_KIND = 'without a known header'

# Pillow's name of each image format, and its file extensions. Others that Pillow opens (.ico, .psd, .pdf ...) are
# rarely the images of a dataset: `extensions` of ImageFolder can add them.
_FORMATS = {
    'JPEG': ('.jpg', '.jpeg', '.jpe', '.jfif'),
    'MPO': ('.mpo',),
    'PNG': ('.png', '.apng'),
    'WEBP': ('.webp',),
    'BMP': ('.bmp', '.dib'),
    'PPM': ('.ppm', '.pgm', '.pbm', '.pnm'),
    'TIFF': ('.tif', '.tiff'),
    'GIF': ('.gif',),
    'AVIF': ('.avif',),
    'JPEG2000': ('.jp2', '.j2k', '.j2c', '.jpc', '.jpf', '.jpx'),
    'HEIF': ('.heic', '.heif', '.hif'),
    'JXL': ('.jxl',),
    'TGA': ('.tga',),
    'QOI': ('.qoi',),
    'PCX': ('.pcx',),
    'SUN': ('.ras',),
}
# Formats that Pillow cannot decode where it was built without the codec.
_CODECS = {'WEBP': 'webp', 'AVIF': 'avif', 'JPEG2000': 'jpg_2000'}
# Plugins of Pillow: the module, and its package.
_PLUGINS = {'HEIF': ('pillow_heif', 'pillow-heif'), 'JXL': ('pillow_jxl', 'pillow-jxl-plugin')}


class ImageHeader(NamedTuple):
    """The format, colours and depth of an image file.

    Args:
        format (str): Pillow's name of the format, such as ``'PNG'``.
        colors (str): ``'RGB'``, ``'grey'``, ``'palette'``, ``'CMYK'``, ``'1-bit'``, or Pillow's mode for others.
        transparent (bool): Whether it has an alpha channel or a transparent colour.
        bits (int): Bits of each channel: 8, 16, or 32 (float or integer).
    """

    format: str
    colors: str
    transparent: bool
    bits: int

    def __str__(self) -> str:
        depth = f'{self.bits}-bit ' if self.bits > 8 else ''
        return f'{depth}{self.colors}{" with transparency" if self.transparent else ""}'


@lru_cache(maxsize=1)
def register_decoders() -> None:
    """Load Pillow's own decoders and those of its plugins that are installed (HEIC, JPEG XL)."""
    Image.init()
    for module, _ in _PLUGINS.values():
        if importlib.util.find_spec(module) is not None:
            plugin = importlib.import_module(module)
            # pillow-heif registers on a call, the others on import.
            getattr(plugin, 'register_heif_opener', lambda: None)()


@lru_cache(maxsize=1)
def readable_extensions() -> tuple[str, ...]:
    """Return the file extensions, such as ``'.jpg'``, of the images that Pillow or OpenCV can read here, sorted."""
    register_decoders()
    return tuple(sorted(ext for name, exts in _FORMATS.items() for ext in exts if _is_readable(name, ext)))


def _is_readable(name: str, extension: str) -> bool:
    by_pillow = name in Image.OPEN and (name not in _CODECS or bool(features.check(_CODECS[name])))
    return by_pillow or cv2.haveImageWriter(f'x{extension}')  # OpenCV is built with both directions of a format


def missing_decoder(extension: str) -> Optional[str]:
    """Return the package that reads images with this extension, if they are not readable here; else None."""
    name = next((name for name, extensions in _FORMATS.items() if extension in extensions), None)
    if name is None or extension in readable_extensions():
        return None
    return f'pip install {_PLUGINS[name][1]}' if name in _PLUGINS else f'a Pillow built with {name}'


def is_transparent(image: Image.Image) -> bool:
    """Return whether an image has an alpha channel or a transparent colour."""
    return image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info


def image_header(image: Image.Image, start: bytes) -> ImageHeader:
    """Describe an image that Pillow has opened and not yet decoded.

    Args:
        image (PIL.Image.Image): From ``Image.open``.
        start (bytes): The first 25 bytes of its file: Pillow reads colour PNG of 16 bits as 8.
    """
    mode = image.mode
    colors = {'L': 'grey', 'LA': 'grey', 'La': 'grey', 'I': 'grey', 'F': 'grey', 'P': 'palette', 'PA': 'palette'}
    colors |= {'1': '1-bit', 'RGBA': 'RGB', 'RGBa': 'RGB'}
    transparent = is_transparent(image)
    bits = 8
    if mode.startswith('I;16') or (mode == 'I' and image.format == 'PPM'):
        bits = 16
    elif mode in ('I', 'F'):
        bits = 32
    if image.format == 'PNG':
        bits = max(8, start[24])
    elif isinstance(image, TiffImageFile):
        bits = max(bits, *image.tag_v2.get(258, (8,)))  # BitsPerSample
    return ImageHeader(
        image.format or '', 'grey' if mode.startswith('I;') else colors.get(mode, mode), transparent, bits
    )


def file_kind(path: str) -> str:
    """Describe a file by its header, such as ``'JPEG, RGB'``, or say that the header is unknown."""
    register_decoders()
    try:
        with open(path, 'rb') as file:
            start = file.read(25)
            file.seek(0)
            return str(image_header(Image.open(file), start))
    except Exception:  # no such file, or not one of Pillow's formats: reading the image raises the full error
        return UNKNOWN_KIND
