"""Folders of images that are not there are found before anything is built."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .dataloader_defaults import dataloaders_of
from .said_once import datasets_in

__all__ = ['check_data_folders']


def check_data_folders(cfg: Config, kinds: tuple[str, ...] = ('train', 'val', 'test')) -> None:
    """Look whether the folders and lists of all :class:`~hybridcls.datasets.ImageFolder` data sets are there.

    Nothing is read. A model of some hundred million parameters is built before the Runner asks for its data; a mistyped
    path should not take so long to come to light.

    Args:
        cfg (Config): Not changed.
        kinds (tuple[str, ...]): Which dataloaders to look at; those of hooks and metrics always.

    Raises:
        FileNotFoundError: Where it was looked for, and which key changes it.
    """
    for name, folder in _image_folders(cfg):
        kind = name.split('_', 1)[0]
        if kind not in ('train', 'val', 'test') or (kind in kinds and cfg.get(f'{kind}_cfg') is not None):
            _look_at(folder).check_folder()


def _image_folders(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield the name of the dataloader and the dict of each ImageFolder."""
    for name, dataloader in dataloaders_of(cfg):
        for dataset in datasets_in(dataloader):
            if str(dataset.get('type')).rsplit('.', 1)[-1] == 'ImageFolder':
                yield name, dataset


def _look_at(folder: dict) -> Any:
    """Build the data set without its pipeline and without looking for images."""
    from hybridcls.datasets import ImageFolder

    settings = {key: value for key, value in folder.items() if key not in ('type', '_scope_', 'pipeline', 'indices')}
    return ImageFolder(**{**settings, 'lazy_init': True})
