"""Set the folder of each memory-mapped image cache: as the config says, else in the work dir."""

import os
from collections.abc import Iterator

from mmengine.config import Config

from .change import Change
from .tree import ABSENT, Path, datasets_in, value_at

__all__ = ['cache_folders', 'mapped_caches']


def cache_folders(cfg: Config, work_dir: str) -> Iterator[Change]:
    """Fill the folder of each mapped cache, if neither its dataset nor the top-level ``cache_dir`` sets it."""
    folder = os.path.join(work_dir, 'image_cache')
    for path in mapped_caches(cfg):
        there = value_at(cfg, path)
        if there is ABSENT or there is None:
            yield Change(path, there, folder, 'a mapped cache is in the work dir', 'the work dir', False)


def mapped_caches(cfg: Config) -> Iterator[Path]:
    """Yield the path of the folder setting of each mapped cache of a dataset."""
    for path, dataset in datasets_in(cfg):
        cache = dataset.get('cache')
        if isinstance(cache, dict) and cache.get('where') == 'mapped':
            yield (*path, 'cache', 'folder')
