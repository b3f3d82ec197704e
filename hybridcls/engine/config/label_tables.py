"""Store the decisions to drop or relabel images in the work dir, as a part of the config."""

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Union

from mmengine.config import Config

from hybridcls.checks import counted

from ..checkpoints.files import atomic_write
from .change import Change
from .tree import Path, datasets_in, is_a

__all__ = ['has_label_tables', 'label_tables']

_KEYS = ('drop', 'relabel')


def has_label_tables(cfg: Config) -> bool:
    """Return whether a dataset has tables of images to drop or relabel."""
    return next(_places(cfg), None) is not None


def label_tables(cfg: Config) -> Iterator[Union[Change, str]]:
    """Copy the decisions of each table (``drop``, ``relabel`` of an ImageFolder) into the work dir, with a digest.

    The config names the copy: ``drop.csv``, ``relabel.csv``; of other tables for other datasets ``drop_2.csv`` ...
    So the table itself may be changed for the next training, or deleted, and the audit of this one still knows what was
    decided (:func:`hybridcls.apis.audit.decided_before.decided_before`).

    Raises:
        FileNotFoundError, ValueError: If a table cannot be read.
        OSError: If a copy cannot be written.
    """
    from hybridcls.datasets.label_decisions import read_decisions

    copies: dict[tuple[str, str], str] = {}
    said: set[str] = set()
    for path, dataset, key in _places(cfg):
        given = dataset[key]
        decisions = read_decisions('ImageFolder', given, key)
        taken = sum(what == key for what, _ in copies)
        name = f'{key}_{taken + 1}.csv' if taken else f'{key}.csv'
        file = copies.setdefault((key, decisions.digest), os.path.abspath(os.path.join(cfg.work_dir, name)))
        atomic_write(decisions.content(), FilePath(file))
        new = dict(file=file, digest=decisions.digest)
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


def _places(cfg: Config) -> Iterator[tuple[Path, dict, str]]:
    from hybridcls.datasets import ImageFolder

    for path, dataset in datasets_in(cfg):
        for key in _KEYS:
            if dataset.get(key) is not None and is_a('DATASETS', dataset, ImageFolder):
                yield path, dataset, key
