"""Images for tests that look different from each other, as photographs do: smooth fields of colour."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed, size=(48, 40)):
    """Return an image of Pillow, (width, height), that no other seed resembles."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def save(image, *parts):
    """Save an image, making its folder, and return the path."""
    path = Path(*map(str, parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def class_folders(root, **counts):
    """Write ``root/<class>/<number>.png``, all different, and return the root."""
    for position, (name, count) in enumerate(counts.items()):
        for number in range(count):
            save(picture(1000 * position + number), root, name, f'{number}.png')
    return root
