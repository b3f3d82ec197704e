"""Check that the folders of images exist before anything is built."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .origins import RUNNER_KEYS
from .tree import Path, class_of, dataloaders_in, datasets_in, dotted, is_a, value_at

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
        ValueError: If an ImageFolder has no ``data_root``; the sentence names its place.
    """
    for path, folder in _places_in(cfg):
        kind = str(path[-1]).split('_', 1)[0]
        used = kind in kinds and cfg.get(f'{kind}_cfg') is not None if len(path) == 1 else not _is_off(cfg, path)
        if used:
            if not any(folder.get(key) for key in ('data_root', 'data_prefix', 'ann_file')):
                raise ValueError(
                    f'{dotted(path)}: expected an ImageFolder with a data_root, got none. Set the top-level data_root '
                    'of the config (--data FOLDER), or write your own dataset here.'
                )
            _look_at(folder).check_folder()


def image_folders_in(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Yield the top-level key (for a hook: the key of its dataloader) and the dict of each ImageFolder."""
    for path, folder in _places_in(cfg):
        yield str(path[-1]), folder


def _places_in(cfg: Config) -> Iterator[tuple[Path, dict]]:
    """Yield the path of the dataloader and the dict of each ImageFolder."""
    from hybridcls.datasets import ImageFolder

    read = {key: value for key, value in cfg.items() if key in RUNNER_KEYS}  # variables of the files are no places
    for path, loader in dataloaders_in(read):
        for _, dataset in datasets_in(loader):
            if is_a('DATASETS', dataset, ImageFolder):
                yield path, dataset


def _is_off(cfg: Config, path: Path) -> bool:
    """Return whether the hook of a dataloader is a BackwardCompatHook without an old model, which reads no images."""
    hook = value_at(cfg, path[:-1])
    if not isinstance(hook, dict) or hook.get('old') is not None:
        return False
    return getattr(class_of('HOOKS', hook), '__name__', '') == 'BackwardCompatHook'  # its room is beside this one


def _look_at(folder: dict) -> Any:
    """Build a dataset without its pipeline and without listing images, which checks its settings."""
    from hybridcls.registry import DATASETS

    settings = {key: value for key, value in folder.items() if key not in ('pipeline', 'indices')}
    return DATASETS.build({**settings, 'lazy_init': True})
