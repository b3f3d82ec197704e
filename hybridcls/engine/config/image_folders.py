"""Check that the folders of images exist before anything is built."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .origins import RUNNER_KEYS
from .tree import dataloaders_in, datasets_in, is_a

__all__ = ['check_image_folders', 'image_folders_in']


def check_image_folders(cfg: Config, kinds: tuple[str, ...] = ('train', 'val', 'test')) -> None:
    """Raise unless the folders and lists of all :class:`~hybridcls.datasets.ImageFolder` datasets exist.

    Nothing is read. A model of some hundred million parameters is built before the Runner asks for its data; a mistyped
    path should not take so long to come to light.

    Args:
        cfg (Config): Not changed.
        kinds (tuple[str, ...]): Which dataloaders to look at; those of hooks and metrics always.

    Raises:
        FileNotFoundError: Where it was looked for, and which key changes it.
    """
    for name, folder in image_folders_in(cfg):
        kind = name.split('_', 1)[0]
        if kind not in ('train', 'val', 'test') or (kind in kinds and cfg.get(f'{kind}_cfg') is not None):
            _look_at(folder).check_folder()


def image_folders_in(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield the top-level key (for a hook: the key of its dataloader) and the dict of each ImageFolder."""
    from hybridcls.datasets import ImageFolder

    read = {key: value for key, value in cfg.items() if key in RUNNER_KEYS}  # variables of the files are no places
    for path, loader in dataloaders_in(read):
        for _, dataset in datasets_in(loader):
            if is_a('DATASETS', dataset, ImageFolder):
                yield str(path[0] if len(path) == 1 else path[-1]), dataset


def _look_at(folder: dict) -> Any:
    """Build a dataset without its pipeline and without listing images, which checks its settings."""
    from hybridcls.registry import DATASETS

    settings = {key: value for key, value in folder.items() if key not in ('pipeline', 'indices')}
    return DATASETS.build({**settings, 'lazy_init': True})
