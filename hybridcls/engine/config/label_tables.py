"""Store the decisions to drop or relabel images in the work dir, as a part of the config."""

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Union

from mmengine.config import Config

from hybridcls.checks import counted

from ..checkpoints.files import atomic_write
from .change import Change
from .tree import Path, datasets_in, is_a

if TYPE_CHECKING:
    from hybridcls.datasets import ImageFolder

__all__ = ['has_label_tables', 'label_tables']

_KEYS = ('drop', 'relabel')
# What does not choose images.
_READING = (*_KEYS, 'pipeline', 'test_mode', 'lazy_init', 'serialize_data', 'max_refetch', 'cache', 'verify',
            'on_unreadable', 'indices')  # fmt: skip


def has_label_tables(cfg: Config) -> bool:
    """Return whether a dataset has tables of images to drop or relabel."""
    return next(_places(cfg), None) is not None


def label_tables(cfg: Config) -> Iterator[Union[Change, str]]:
    """Copy the decisions of each table (``drop``, ``relabel`` of an ImageFolder) into the work dir, with a digest.

    The config names the copy: ``drop.csv``, ``relabel.csv``; of other tables for other datasets ``drop_2.csv`` ...
    So the table itself may be changed for the next training, or deleted, and the audit of this one still knows what was
    decided (:func:`hybridcls.apis.audit.decided_before.decided_before`).

    A table for several datasets of other images (``ConcatDataset``) is ``shared``: each path is an image of one of
    them, which is checked here (:func:`~hybridcls.datasets.shared_decisions.check_shared_decisions`), since each of
    them knows its own images alone.

    Raises:
        FileNotFoundError, ValueError: If a table cannot be read, or a shared one is not about these images.
        OSError: If a copy cannot be written.
    """
    from hybridcls.datasets.label_decisions import read_decisions

    copies: dict[tuple[str, str], str] = {}
    said: set[str] = set()
    shared, notes = _shared_tables(cfg)
    yield from notes
    for path, dataset, key in _places(cfg):
        given = dataset[key]
        decisions = read_decisions('ImageFolder', given, key)
        taken = sum(what == key for what, _ in copies)
        name = f'{key}_{taken + 1}.csv' if taken else f'{key}.csv'
        file = copies.setdefault((key, decisions.digest), os.path.abspath(os.path.join(cfg.work_dir, name)))
        atomic_write(decisions.content(), FilePath(file))
        new = dict(file=file, digest=decisions.digest, **(dict(shared=True) if (*path, key) in shared else {}))
        if new != given:
            if given == cfg.get(key):  # a dump fills its datasets by the copy: the table may be gone
                yield Change((key,), given, new, 'the copy of the table', 'the table', False, lasting=True)
            why = f'{counted(len(getattr(decisions, key)), "decision")} in {decisions.file}'
            yield Change((*path, key), given, new, why, 'the table')
        other = 'relabel' if key == 'drop' else 'drop'
        if decisions.unread and dataset.get(other) is None and decisions.file not in said:
            said.add(decisions.file)
            yield (
                f'{decisions.file} also decides {other} for {counted(decisions.unread, "image")}, which is not '
                f'applied because --{other} is not given.'
            )


def _shared_tables(cfg: Config) -> tuple[set[Path], list[str]]:
    """Check the tables that datasets of different images share.

    Returns:
        tuple[set[Path], list[str]]: Where they stand in the config, and what there is to say.
    """
    from hybridcls.datasets.label_decisions import read_decisions
    from hybridcls.datasets.shared_decisions import check_shared_decisions

    places: dict[tuple[str, str], list[tuple[Path, dict]]] = {}
    for path, dataset, key in _places(cfg):
        places.setdefault((key, read_decisions('ImageFolder', dataset[key], key).digest), []).append((path, dataset))
    shared: set[Path] = set()
    sharing: dict[str, tuple[dict, dict]] = {}
    training = {_images_of(dataset): dataset for path, dataset in _folders(cfg) if path[0] == 'train_dataloader'}
    for (key, _), those in places.items():
        images = {_images_of(dataset) for _, dataset in those}
        if len(images | training.keys() if images & training.keys() else images) < 2:
            continue
        for path, dataset in those:
            shared.add((*path, key))
            sharing.setdefault(_images_of(dataset), (dataset, {}))[1][key] = dataset[key]
    if not shared:
        return shared, []
    datasets = []
    for dataset, tables in sharing.values():
        noted = {key: dict(given if isinstance(given, dict) else dict(file=given)) for key, given in tables.items()}
        datasets.append(_built(dataset, {key: {**one, 'shared': True} for key, one in noted.items()}))
    others = [_built(dataset, {}) for images, dataset in training.items() if images not in sharing]
    return shared, check_shared_decisions(datasets, others)


def _images_of(dataset: dict) -> str:
    """Return the settings that choose the images."""
    return repr(sorted((key, repr(value)) for key, value in dataset.items() if key not in _READING))


def _built(dataset: dict, tables: dict) -> 'ImageFolder':
    from hybridcls.registry import DATASETS

    settings = {key: value for key, value in dataset.items() if key not in _READING}
    return DATASETS.build({**settings, **tables, 'lazy_init': True})


def _places(cfg: Config) -> Iterator[tuple[Path, dict, str]]:
    for path, dataset in _folders(cfg):
        for key in _KEYS:
            if dataset.get(key) is not None:
                yield path, dataset, key


def _folders(cfg: Config) -> Iterator[tuple[Path, dict]]:
    from hybridcls.datasets import ImageFolder

    for path, dataset in datasets_in(cfg):
        if is_a('DATASETS', dataset, ImageFolder):
            yield path, dataset
