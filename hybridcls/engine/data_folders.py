"""Folders of images: found missing before anything is built, and numbered alike in training, validation and test."""

from collections.abc import Iterator
from typing import Any, Optional

from mmengine.config import Config

from .dataloader_defaults import dataloaders_of
from .said_once import datasets_in

__all__ = ['check_data_folders', 'share_class_names']


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


def share_class_names(cfg: Config) -> None:
    """Number the class folders of all data sets as those of the training, in place.

    Class numbers follow the alphabetical order of the folders. A validation folder that lacks some classes would
    number the others differently; so where a data set names no classes, it gets those of the training, by name, and a
    class without images there is a warning (``empty_classes='warn'``), since it only leaves a class unvalidated. A
    folder that the training lacks is an error when the data set is read.

    Data sets from lists of files (``ann_file``) are left alone, and all of them if the training has no class folders.
    """
    folders = list(_image_folders(cfg))
    names = next((_class_folders(folder) for name, folder in folders if name == 'train_dataloader'), None)
    if names is None:
        return
    for name, folder in folders:
        if (
            name != 'train_dataloader'
            and not folder.get('ann_file')
            and folder.get('with_label', True)
            and folder.get('classes') is None
            and 'classes' not in (folder.get('metainfo') or {})
        ):
            own = _class_folders(folder)
            if own is not None and own != names:
                folder['classes'] = names
                folder.setdefault('empty_classes', 'warn')


def _image_folders(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield the name of the dataloader and the dict of each ImageFolder."""
    for name, dataloader in dataloaders_of(cfg):
        for dataset in datasets_in(dataloader):
            if str(dataset.get('type')).rsplit('.', 1)[-1] == 'ImageFolder':
                yield name, dataset


def _class_folders(folder: dict) -> Optional[list[str]]:
    if folder.get('ann_file') or not folder.get('with_label', True) or folder.get('classes') is not None:
        return None
    try:
        return _look_at(folder).class_folders()
    except FileNotFoundError:  # a test on a machine without the training images
        return None


def _look_at(folder: dict) -> Any:
    """Build the data set without its pipeline and without looking for images."""
    from hybridcls.datasets import ImageFolder

    settings = {key: value for key, value in folder.items() if key not in ('type', '_scope_', 'pipeline', 'indices')}
    return ImageFolder(**{**settings, 'lazy_init': True})
