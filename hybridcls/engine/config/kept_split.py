"""Divide a folder of images once, and keep the split in a file for later runs."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from mmengine.logging import print_log

from hybridcls.checks import counted, listed, verb_of
from hybridcls.datasets.annotation_file import Annotation
from hybridcls.datasets.data_split import divide, folds_of
from hybridcls.datasets.near_duplicates import groups_of_near_duplicates
from hybridcls.datasets.split_file import read_split_table, split_table
from hybridcls.datasets.split_names import split_named

from ..checkpoints.files import atomic_write
from .layers import ConfigError
from .split_settings import SplitSettings

__all__ = ['is_split_of', 'kept_or_made', 'near_duplicates_across']

Rows = list[Annotation]
_NEAR = 'near-duplicates '
_MANY, _TOO_MANY = 5000, 50_000  # images: comparing a thousand takes one or two seconds


def kept_or_made(
    rows: Rows, root: str, settings: SplitSettings, file: str, multi_label: bool
) -> tuple[Rows, str, list[str]]:
    """Read the split of an earlier run, or divide the images and write the file.

    Args:
        rows (list[Annotation]): The images that are there; those of ``split='test'`` stay so.
        root (str): Their ``data_root``.
        settings (SplitSettings): How to divide.
        file (str): Where the split is kept.
        multi_label (bool): Whether ``|`` separates labels.

    Returns:
        tuple[list[Annotation], str, list[str]]: The images with their split, the file that says it (of a
        cross-validation that of the fold), and sentences about it.

    Raises:
        ConfigError: If the file is about other images or has other folds, or there are too few images.
        OSError: If the file cannot be written.
    """
    make = _kept if os.path.isfile(file) else _made
    rows, notes = make(rows, root, settings, file, multi_label)
    if settings.folds is None:
        return rows, file, notes
    own = f'fold{settings.fold}'
    of_fold = f'{file.removesuffix(".csv")}_{own}.csv'
    rows = [row._replace(split={own: 'val', 'test': 'test'}.get(row.split, 'train')) for row in rows]
    _write(rows, of_fold)
    return rows, of_fold, notes


def _made(rows: Rows, root: str, settings: SplitSettings, file: str, multi_label: bool) -> tuple[Rows, list[str]]:
    if settings.near_duplicates:
        rows = _grouped(rows, root)
    rows = _divided(rows, root, settings, multi_label)
    _write(rows, file)
    together = sum(row.group.startswith(_NEAR) for row in rows)
    also = f', {together} near-duplicates kept together' if together else ''
    made = (
        f'{root} is divided into {_counts(rows)} ({settings}{also}). The next training reads the split from {file}: '
        'edit its column split, or remove it.'
    )
    return rows, [made, *_remarks(rows, multi_label)]


def near_duplicates_across(rows: Rows, root: str, file: str) -> list[str]:
    """Warn once of near-duplicates across splits, if the data bring their own split.

    Args:
        rows (list[Annotation]): The images, with their splits.
        root (str): Their ``data_root``.
        file (str): Where those that are found are listed, for the user and for the next start.

    Returns:
        list[str]: A sentence, if there are any. More than 50,000 images are not compared.
    """
    if not os.path.isfile(file):
        if len(rows) > _TOO_MANY:
            return []
        rows = _grouped([row._replace(group='') for row in rows], root)
        splits: dict[str, set[str]] = {}
        for row in rows:
            splits.setdefault(row.group, set()).add(row.split)
        _write([row for row in rows if row.group and len(splits[row.group]) > 1], file)
    with open(file, 'rb') as lines:
        found = sum(1 for _ in lines) - 1
    if not found:
        return []
    return [
        f'{counted(found, "image")} nearly equal to an image of another split of {root}, which makes results look '
        f'better than they are: see {file}.'
    ]


def _grouped(rows: Rows, root: str) -> Rows:
    """Assign near-duplicates among the images without a group to a common group."""
    near = [number for number, row in enumerate(rows) if not row.group]
    folder = os.path.dirname(root) if os.path.isfile(root) else root
    if len(near) > _MANY:
        print_log(f'Comparing {counted(len(near), "image")} of {root}, to find near-duplicates ...', 'current')
    numbers = groups_of_near_duplicates([os.path.join(folder, rows[number].path) for number in near])
    sizes, rows = Counter(numbers), list(rows)
    for number, group in zip(near, numbers, strict=True):
        if sizes[group] > 1:
            rows[number] = rows[number]._replace(group=f'{_NEAR}{group}')
    return rows


def is_split_of(file: str, rows: Rows, root: str) -> bool:
    """Return whether a split file exists and covers most of these images of ``root``; others may share some names."""
    if not os.path.isfile(file):
        return False
    known = {row.path for row in read_split_table('data_split', file, root)}
    return 2 * sum(row.path in known for row in rows) >= max(len(rows), len(known))


def _kept(rows: Rows, root: str, settings: SplitSettings, file: str, multi_label: bool) -> tuple[Rows, list[str]]:
    old = {row.path: row for row in read_split_table('data_split', file, root)}
    kept = [
        row._replace(split=split_named(old[row.path].split) or old[row.path].split, group=old[row.path].group)
        for row in rows
        if row.path in old
    ]
    other = 'Remove it for a new split, or choose another --work-dir.'
    if not kept:
        raise ConfigError(f'{file} is the split of other images: none of its {len(old)} is in {root}. {other}')
    asked = {f'fold{number + 1}' for number in range(settings.folds or 0)}
    found = {row.split for row in kept} - {'train', 'val', 'test'}
    if found != asked:
        has = f'{len(found)} folds' if found else 'no folds'
        raise ConfigError(f'{file} has {has} ({listed(sorted(found))}), not data_split folds={settings.folds}. {other}')
    new, gone = len(rows) - len(kept), len(old) - len(kept)
    notes = [f'{root} is divided into {_counts(kept)} by {file} of an earlier training.']
    if new or gone:
        notes.append(
            f'{counted(new, "image")} added since then and not used, {gone} missing. Remove the file to split all '
            'images again.'
        )
    else:
        with suppress(ConfigError):  # too few for these settings: other settings than it was made with
            groups = [row._replace(group=one.group) for row, one in zip(rows, kept, strict=True)]
            if _divided(groups, root, settings, multi_label) == kept:
                return kept, notes
        notes.append(
            f'This is not the split that {settings} of data_split makes: the file was edited, or made with other '
            f'settings. {other}'
        )
    if gone or any(row.label != old[row.path].label for row in kept):  # datasets read it
        _write(kept, file)
    return kept, notes


def _divided(rows: Rows, root: str, settings: SplitSettings, multi_label: bool) -> Rows:
    """Assign each image that is not for the test to train, val or test, or to its fold."""
    labels = [_labels_of(row, multi_label) for row in rows]
    groups = [row.group or f'\0{number}' for number, row in enumerate(rows)]
    parts = ['test' if row.split == 'test' else 'train' for row in rows]

    def deal(how: Callable[[list[Sequence[str]], list[str]], list[str]]) -> None:
        inside = [number for number, part in enumerate(parts) if part == 'train']
        dealt = how([labels[number] for number in inside], [groups[number] for number in inside])
        for number, part in zip(inside, dealt, strict=True):
            parts[number] = part

    def fold_names(labels: list[Sequence[str]], groups: list[str]) -> list[str]:
        folds = folds_of(labels, groups, settings.folds or 0, settings.seed)
        return ['train' if fold is None else f'fold{fold + 1}' for fold in folds]

    val, test = 0.0 if settings.folds else settings.val, 0.0 if 'test' in parts else settings.test
    try:
        deal(lambda labels, groups: divide(labels, groups, val, test, settings.seed))
        if settings.folds:
            deal(fold_names)
    except ValueError as error:
        raise ConfigError(f'{root}: {error}') from error
    return [row._replace(split=part) for row, part in zip(rows, parts, strict=True)]


def _labels_of(row: Annotation, multi_label: bool) -> Sequence[str]:
    return [one for one in row.label.split('|') if one] if multi_label else [row.label]


def _write(rows: Rows, file: str) -> None:
    try:
        content = split_table(rows)
    except ValueError as error:
        raise ConfigError(f'{file}: {error}') from error
    atomic_write(content, file)


def _counts(rows: Rows) -> str:
    counts = Counter(row.split for row in rows)
    return ', '.join(
        f'{counts[split]} {split}' for split in sorted(counts, key=lambda split: (split != 'train', split))
    )


def _remarks(rows: Rows, multi_label: bool) -> list[str]:
    """Return warnings about classes without validation images, and near-duplicates in different classes."""
    remarks = []
    labels = [_labels_of(row, multi_label) for row in rows]
    classes = {name for names in labels for name in names}
    validated = {
        name for row, names in zip(rows, labels, strict=True) if row.split not in ('train', 'test') for name in names
    }
    if classes > validated:
        few = sorted(classes - validated)
        remarks.append(
            f'{len(few)} of {len(classes)} classes {verb_of(len(few), "has", "have")} too few images for one in the '
            f'validation: {listed(few, 5)}.'
        )
    names_of: dict[str, set] = {}
    for row, names in zip(rows, labels, strict=True):
        if row.group.startswith(_NEAR):
            names_of.setdefault(row.group, set()).add(tuple(names))
    across = [row.path for row in rows if len(names_of.get(row.group, ())) > 1]
    if across:
        remarks.append(f'{counted(len(across), "image")} nearly equal to one with another label: {listed(across, 4)}.')
    return remarks
