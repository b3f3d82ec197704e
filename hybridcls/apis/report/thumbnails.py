"""Thumbnails of images, inlined in the page."""

import base64
import io
from typing import Any, Optional

from PIL import Image, ImageOps

from ..image_inputs import Item

__all__ = ['data_address', 'thumbnail']

EDGE = 96  # pixels


def thumbnail(item: Item, edge: int = EDGE) -> Optional[str]:
    """Return an image, upright by EXIF, as a ``data:`` URI of at most a few kilobytes; None if it is unreadable.

    Args:
        item (Item): The image; of an address of a network, None: a page is made without one.
        edge (int): The longer side. Defaults to 96.
    """
    source = item.source
    try:
        if isinstance(source, str):
            if '://' in source:
                return None
            opened: Any = Image.open(source)
        else:
            opened = source if isinstance(source, Image.Image) else Image.open(io.BytesIO(source))
        opened.draft('RGB', (2 * edge, 2 * edge))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(('I', 'F')):
            image = image.convert('F').point(lambda value: value / 256).convert('L')
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        image = image.convert('RGBA')
        ground = Image.new('RGB', image.size, 'white')
        ground.paste(image, mask=image.getchannel('A'))
        if max(ground.size) < edge // 2:  # of a few pixels
            factor = edge // max(ground.size)
            ground = ground.resize((ground.width * factor, ground.height * factor), Image.Resampling.NEAREST)
    except (OSError, ValueError, SyntaxError):
        return None
    return data_address(ground)


def data_address(image: Image.Image) -> str:
    """Return an RGB image as the ``data:`` URI of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=72, optimize=True)
    return f'data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'
