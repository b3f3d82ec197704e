"""The size limit of an image cache, and the error message if the images do not fit."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

__all__ = ['cache_limit', 'gigabytes', 'too_large']


def cache_limit(settings: dict, path: str) -> tuple[int, str]:
    """Return the most bytes of a cache, and where the number comes from.

    Args:
        settings (dict): Of :func:`~hybridcls.datasets.image_cache.checked_cache`.
        path (str): The file; ``''`` in memory.
    """
    if settings['max_bytes'] is not None:
        return settings['max_bytes'], 'max_bytes'
    if path:
        folder = Path(path).parent
        return int(0.9 * shutil.disk_usage(folder).free), f'nine tenths of the free space of {folder}'
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # set by torchrun; each keeps its own images
    shared = f' of {processes} processes' if processes > 1 else ''
    return _available_memory() // 2 // processes, f'half of the available memory{shared}'


def _available_memory() -> int:
    """Bytes of memory that processes can still take."""
    total = sys.maxsize
    with contextlib.suppress(AttributeError):  # Windows
        total = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    with contextlib.suppress(OSError, StopIteration):
        lines = Path('/proc/meminfo').read_text().splitlines()
        total = 1024 * int(next(line.split()[1] for line in lines if line.startswith('MemAvailable')))
    with contextlib.suppress(OSError, ValueError):  # of a container; 'max' where it has no limit
        total = min(total, int(Path('/sys/fs/cgroup/memory.max').read_text()))
    return total


def too_large(images: int, mean: float, limit: int, whose: str) -> ValueError:
    """Return the error for images that do not fit.

    Args:
        images (int): How many.
        mean (float): Bytes of one.
        limit (int), whose (str): Of :func:`cache_limit`.
    """
    return ValueError(
        f'ImageFolder: expected a cache of at most {gigabytes(limit)} ({whose}), got about '
        f'{gigabytes(mean * images)}: {images:,} images of {mean / 1e6:.2f} MB each, decoded. Put a transform that '
        "makes them smaller behind LoadImage, such as dict(type='ResizeEdge', scale=256), set where='mapped' or "
        'max_bytes in cache, or remove cache.'
    )


def gigabytes(size: float) -> str:
    """Write a number of bytes, as ``1.25 GB``."""
    return f'{size / 1e9:.2f} GB'
