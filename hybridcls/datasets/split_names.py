"""The common names of dataset splits in folders and tables: train, val and test."""

from collections.abc import Sequence
from typing import Optional

__all__ = ['SPLITS', 'split_folders', 'split_named']

SPLITS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev'),
    'test': ('test', 'testing'),
}
"""Each split, and the names for it, in lower case."""

_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}


def split_named(name: str) -> Optional[str]:
    """Return the split that a name denotes, or None.

    Example:
        >>> split_named('Validation')
        'val'
    """
    return _SPLIT_OF.get(name.strip().lower())


def split_folders(names: Sequence[str]) -> dict[str, str]:
    """Return the folder of each split if the folders are dataset splits: ``train``, alone or with another one.

    Raises:
        ValueError: If two folders mean the same split.

    Example:
        >>> split_folders(['test', 'train', 'valid'])
        {'test': 'test', 'train': 'train', 'val': 'valid'}
        >>> split_folders(['bus', 'train'])
        {}
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        split = split_named(name)
        if split in found:
            raise ValueError(f'expected one folder for the split {split}, got {found[split]} and {name}.')
        if split is not None:
            found[split] = name
    return found if 'train' in found and (len(found) > 1 or len(names) == 1) else {}
