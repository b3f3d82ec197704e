"""A few digests of a set of images, to find out later whether other images are the same files."""

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from hybridcls.safetensors_folder import digest_of_file

from .image_inputs import Item

__all__ = ['image_sketch', 'share_in_sketch']

_MOST = 2048
_BYTES = 6  # of a digest: a wrong match among 10,000 x 10,000 images has a probability of 4e-7


def image_sketch(items: Iterable[Item]) -> dict[str, Any]:
    """Return the sketch of images, in the types of JSON: the 2,048 smallest digests of their files.

    Of a larger set these are a sample that does not depend on names or order (the bottom-k sketch of Broder, 1997), and
    two samples meet where the sets do. An image cannot be read from its digest.

    Args:
        items (Iterable[Item]): Images in files; others are left out.

    Returns:
        dict: ``images``, how many there are, and ``digests``, base64.
    """
    digests = sorted({digest for item in items if (digest := _digest(item)) is not None})
    return dict(images=len(digests), digests=base64.b64encode(b''.join(digests[:_MOST])).decode())


def share_in_sketch(sketch: Mapping[str, Any], items: Iterable[Item]) -> Optional[float]:
    """Return what share of images, in [0, 1], is in a set of which a sketch is left.

    It is exact for a set of at most 2,048 images, and an estimate for a larger one: that of the images whose digests
    are in the range of the sketch.

    Args:
        sketch (Mapping): Of :func:`image_sketch`.
        items (Iterable[Item]): The images.

    Returns:
        float: None if nothing can be said: no sketch, or no image in its range.
    """
    joined = base64.b64decode(sketch.get('digests') or '')
    kept = {joined[start : start + _BYTES] for start in range(0, len(joined), _BYTES)}
    if not kept:
        return None
    largest = max(kept) if sketch['images'] > len(kept) else b'\xff' * _BYTES
    asked = [digest for item in items if (digest := _digest(item)) is not None and digest <= largest]
    return sum(digest in kept for digest in asked) / len(asked) if asked else None


def _digest(item: Item) -> Optional[bytes]:
    if not isinstance(item.source, str) or not os.path.isfile(item.source):
        return None
    return bytes.fromhex(digest_of_file(item.source))[:_BYTES]
