"""Fill the images of datasets that name only their split (``split='train'``) from ``data_root``."""

import os
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Union

from mmengine.config import Config

from hybridcls.checks import counted, is_or_are, listed

from .change import Change
from .kept_split import is_split_of, kept_or_made, near_duplicates_across
from .layers import ConfigError
from .split_settings import SplitSettings, split_settings
from .tree import ABSENT, Path, datasets_in, is_a

if TYPE_CHECKING:
    from hybridcls.datasets.annotation_file import Annotation

__all__ = ['data_splits', 'open_splits']

Plan = Iterator[Union[Change, str]]
Rows = list['Annotation']
Places = list[tuple[Path, dict]]
_BY = 'the split of the images'
# What decides on images, once they are divided, is not asked for the division.
_LATER = ('pipeline', 'indices', 'split', 'drop', 'relabel')


def open_splits(cfg: Config) -> Places:
    """Return path and dict of each ImageFolder that names its split but neither folder nor list."""
    from hybridcls.datasets import ImageFolder

    return [
        (path, dataset)
        for path, dataset in datasets_in(cfg)
        if dataset.get('split') and dataset.get('data_root') and is_a('DATASETS', dataset, ImageFolder)
        if not (dataset.get('data_prefix') or dataset.get('ann_file'))
    ]


def data_splits(
    cfg: Config, folder: Union[str, PathLike], beside: Sequence[Union[str, PathLike]] = (), is_test: bool = False
) -> Plan:
    """Fill ``data_prefix`` or ``ann_file`` of the datasets that :func:`open_splits` finds.

    - ``data_root`` has folders ``train`` and ``val`` (or ``valid``, ``validation``, ``dev``; ``test``): these.
    - It is a table (``.csv``, ``.tsv``) with a column ``split`` of ``train`` and ``val``: the table.
    - Else (class folders; a table without that column; ``train`` and ``test`` without ``val``) the images that are not
      for the test are divided, once, as the key ``data_split`` says
      (:class:`~hybridcls.engine.config.split_settings.SplitSettings`), and ``split.csv`` in ``folder`` says how:
      ``path,label,split,group``. The next start reads it.

    Without images for a test the validation is tested. A test alone divides nothing: images that no kept split is about
    are all tested.

    Args:
        cfg (Config): Read, not changed.
        folder (str): The work dir, where the split is kept.
        beside (Sequence[str]): Folders whose ``split.csv`` comes before: that of a checkpoint to test.
        is_test (bool): Whether nothing is trained. Defaults to False.

    Raises:
        FileNotFoundError: If ``data_root`` is not there.
        ValueError: If it has no images, images of one class only, or too few; or if a split that was kept is of other
            images.
        OSError: If the split cannot be written.
    """
    from hybridcls.datasets.split_file import SPLIT_FILE

    settings = split_settings(cfg)
    roots: dict[str, Places] = {}
    for path, dataset in open_splits(cfg):
        root = os.path.expanduser(dataset['data_root'])
        roots.setdefault(root if '://' in root else os.path.abspath(root), []).append((path, dataset))
    for root, places in roots.items():
        name = SPLIT_FILE if len(roots) == 1 else f'split_{os.path.basename(root)}.csv'
        kept = [os.path.join(place, name) for place in (*beside, folder)]
        file = os.path.abspath(next(filter(os.path.isfile, kept), kept[-1]))
        leaks = os.path.join(folder, name.replace('split', 'near_duplicates'))
        yield from _of_root(root, places, settings, file, leaks if not beside else '', is_test)


def _of_root(root: str, places: Places, settings: SplitSettings, file: str, leaks: str, is_test: bool) -> Plan:
    from hybridcls.datasets.annotation_file import TABLES
    from hybridcls.datasets.class_folders import check_image_folder, folders_in
    from hybridcls.datasets.split_names import split_folders

    # What trains decides how its images are found; without it (a test alone), whoever is first.
    dataset = next((one for _, one in places if one['split'] == 'train'), places[0][1])
    is_table = root.lower().endswith(TABLES)
    folders: dict[str, str] = {}
    if not is_table:
        check_image_folder(root, root, '')
        folders = split_folders(folders_in(root))
        if 'test' in folders and not folders_in(os.path.join(root, folders['test'])):
            yield f'{os.path.join(root, folders.pop("test"))} has no class folders: it is not used.'
    if 'val' in folders:
        _refuse_folds(settings, root)
        for path, one in places:
            name = folders.get(one['split'], folders['val'])
            yield Change((*path, 'data_prefix'), one.get('data_prefix', ABSENT), name, _why(one, folders), _BY)
        if leaks:
            rows, _ = _rows_below(dataset, root, folders['train'], 'train')
            for split in folders.keys() - {'train'}:  # their classes are those that the training has
                rows += _rows_below({**dataset, 'with_label': False}, root, folders[split], split)[0]
            yield from near_duplicates_across(rows, root, leaks) if settings.near_duplicates else []
        return
    has_folders, folders = bool(folders), folders or {'': ''}
    rows = []
    left_out: Counter[str] = Counter()
    for split, name in folders.items():
        more, others = _rows_below(dataset, root, name, split)
        rows += more
        left_out += others
    found = {row.split for row in rows}
    notes: list[str] = []
    if {'train', 'val'} <= found:
        _refuse_folds(settings, root)
        file = root
        notes = near_duplicates_across(rows, root, leaks) if settings.near_duplicates and leaks else []
    elif is_test and not has_folders and not any(row.split for row in rows) and not is_split_of(file, rows, root):
        for path, one in places:
            yield Change(
                (*path, 'split'), one['split'], None, 'there is no split of these images, so all are tested', _BY
            )
            if is_table:
                yield Change((*path, 'ann_file'), one.get('ann_file', ABSENT), root, 'data_root is a table', _BY)
        yield f'All of {root} is tested: {counted(len(rows), "image")}.'
        return
    else:
        rows, file, notes = kept_or_made(rows, root, settings, file, bool(dataset.get('multi_label')))
        if left_out:  # the datasets read the table of the split, which does not name these files
            reasons = ', '.join(f'{reason} ({count})' for reason, count in left_out.most_common())
            notes = [*notes, f'Left out of {root}: {reasons}.']
        found = {row.split for row in rows}
    for path, one in places:
        why = _why(one, found)
        yield Change((*path, 'ann_file'), one.get('ann_file', ABSENT), file, why, _BY)
        if one['split'] not in found:
            yield Change((*path, 'split'), one['split'], 'val', why, _BY)
        if file != root:
            labels = {} if is_table and not (one.get('ann_format') or {}).get('labels') else dict(labels='names')
            new = dict(delimiter=',', **labels)
            yield Change((*path, 'ann_format'), one.get('ann_format', ABSENT), new, 'as the split says', _BY)
    yield from notes


def _why(dataset: dict, found: Container[str]) -> str:
    return f'split={dataset["split"]!r}' if dataset['split'] in found else 'data_root has no test split: val is tested'


def _refuse_folds(settings: SplitSettings, root: str) -> None:
    if settings.folds:
        raise ConfigError(
            f'data_split: expected images without a split for folds={settings.folds}, but {root} has its own split. '
            'Set data_root to a folder of class folders, or to a table without validation images.'
        )


def _rows_below(dataset: dict, root: str, prefix: str, split: str) -> tuple[Rows, Counter[str]]:
    """List the images of a folder in a data root (or of the root), with labels, splits and groups.

    Returns:
        tuple[list[Annotation], Counter[str]]: The images, and the number of other files by reason.

    Raises:
        ConfigError: If they are of one class.
        FileNotFoundError: If a table lists images that are not there.
    """
    from hybridcls.datasets.annotation_file import Annotation
    from hybridcls.datasets.split_names import split_named
    from hybridcls.registry import DATASETS

    settings = {key: value for key, value in dataset.items() if key not in _LATER}
    built = DATASETS.build({**settings, 'data_root': root, 'data_prefix': prefix, 'lazy_init': True})
    infos = built.load_data_list()
    names: Sequence[str] = built.metainfo.get('classes') or ()
    if built.with_label and len(names) == 1 and split != 'test' and not dataset.get('classes'):
        raise ConfigError(
            f'{root}: expected images of two or more classes, got one, {names[0]!r}. Give each class its own folder '
            'in data_root (or its own label in the table). If you want a single class, set classes=[...] in the '
            'dataset.'
        )
    missing = [info['img_path'] for info in infos if '://' not in root and not os.path.isfile(info['img_path'])]
    if missing:
        raise FileNotFoundError(
            f'{root}: {counted(len(missing), "image", of=len(infos))} {is_or_are(len(missing))} not there: '
            f'{listed(missing, 3)}. Write paths below {built.img_prefix}, or remove the lines.'
        )
    rows = []
    above = os.path.join(built.img_prefix, '')
    for info in infos:
        labels = info.get('gt_label', [])
        label = '|'.join(names[number] for number in (labels if isinstance(labels, list) else [labels]))
        path = os.path.join(prefix, info['img_path'].removeprefix(above))
        own = split or split_named(info.get('split', '')) or info.get('split', '')
        rows.append(Annotation(0, path, label, own, info.get('group', '')))
    return rows, built.left_out
