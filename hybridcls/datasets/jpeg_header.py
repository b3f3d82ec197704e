"""Read the size of a JPEG from its header, in microseconds."""

import struct
from typing import Optional

__all__ = ['jpeg_size']

_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive Huffman coding
_ORIENTATION = 0x0112  # of EXIF: from 5 on, the image is stored on its side


def jpeg_size(content: bytes, oriented: bool = True) -> Optional[tuple[int, int]]:
    """Return (height, width) of a grey or colour JPEG of 8 bits; None for anything else, and for a broken header.

    Args:
        content (bytes): The file.
        oriented (bool): Whether it is the size after the rotation by the EXIF orientation. Defaults to True.

    Example:
        >>> jpeg_size(b'no image') is None
        True
    """
    position, turned = 2, False
    if not content.startswith(b'\xff\xd8'):
        return None
    try:
        while content[position] == 0xFF:
            marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], 'big')
            start = position + 4
            if marker in _FRAMES:
                bits, height, width, channels = struct.unpack_from('>BHHB', content, start)
                if bits != 8 or channels not in (1, 3) or not height or not width:
                    return None
                return (width, height) if turned else (height, width)
            if marker == 0xE1 and oriented and content.startswith(b'Exif\0\0', start):
                turned = _orientation(content[start + 6 : position + 2 + length]) in (5, 6, 7, 8)
            position += 2 + length
    except Exception:  # a broken header, in one of many ways: decoding raises the full error
        pass
    return None


def _orientation(tiff: bytes) -> int:
    """Return the EXIF orientation from the first directory; 1 (as stored) if it is missing."""
    order = '<' if tiff.startswith(b'II') else '>'
    (directory,) = struct.unpack_from(f'{order}I', tiff, 4)
    (entries,) = struct.unpack_from(f'{order}H', tiff, directory)
    for start in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, value = struct.unpack_from(f'{order}H6xH', tiff, start)
        if tag == _ORIENTATION:
            return int(value)
    return 1
