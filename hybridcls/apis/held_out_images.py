"""Held-out images: images that did not train the model."""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import counted, near_files
from hybridcls.datasets.annotation_file import TABLES, read_rows
from hybridcls.datasets.class_folders import folders_in
from hybridcls.datasets.split_file import SPLIT_FILE, read_split_table
from hybridcls.datasets.split_names import split_folders, split_named

from .image_inputs import Item, read_inputs

__all__ = ['held_out_images', 'split_file_of', 'training_dataset']


def held_out_images(
    data: str,
    checkpoint: str,
    cfg: Mapping[str, Any],
    caller: str = 'calibrate',
    splits: Sequence[str] = ('val', 'test'),
) -> tuple[list[Item], list[str]]:
    """List the images of a folder or a table that did not train the checkpoint, as far as its work dir records.

    - Of a folder with folders ``train`` and ``val`` (or ``test``), and of a table with such a column ``split``: those
      of the first of ``splits`` that is there.
    - Of the ``data_root`` of the training, without those that its ``split.csv`` gave to the training.
    - Of anything else, all.

    Args:
        data (str): Class folders, or a table with ``path`` and ``label``.
        checkpoint (str): Its file.
        cfg (Mapping): The config of its training.
        caller (str): Name that errors start with. Defaults to ``'calibrate'``.
        splits (Sequence[str]): ``'val'`` and ``'test'``, the better one first. Defaults to ``('val', 'test')``.

    Returns:
        tuple[list[Item], list[str]]: The images, and sentences about which they are.

    Raises:
        FileNotFoundError: If there are no images, or no such path.
        ValueError: If they are those of the training.
    """
    data = os.path.expanduser(data)
    notes = []
    if not os.path.exists(data) and '://' not in data and not glob.has_magic(data):
        raise FileNotFoundError(
            f'{caller}: the folder or table {data!r} of labelled images does not exist.{near_files(data)}'
        )
    if os.path.isdir(data):
        folders = split_folders(folders_in(data))
        if folders:
            split = next((name for name in splits if name in folders), None)
            if split is None:
                raise ValueError(
                    f'{caller}: expected held-out images, got {data} with training images only ({folders["train"]}). '
                    'Name class folders of images that the model has not been trained on.'
                )
            data = os.path.join(data, folders[split])
            notes.append(f'Of its splits the images of {data} are taken.')
        elif _is_training_folder(data, cfg):
            raise ValueError(
                f'{caller}: expected held-out images, got {data}, whose images the model was trained on. On these it '
                'is more often right, and surer, than on other images.'
            )
    items = list(read_inputs(data, caller).items)
    if os.path.isfile(data) and data.lower().endswith(TABLES):
        items, note = _without_training_rows(data, items, caller, splits)
    else:
        items, note = _without_training_images(data, items, checkpoint, cfg, caller)
    return items, [*notes, *note]


def _without_training_rows(
    table: str, items: list[Item], caller: str, wanted: Sequence[str]
) -> tuple[list[Item], list[str]]:
    rows, _ = read_rows(caller, table, with_label=False, folder=os.path.dirname(table))
    found = [split_named(row.split) for row in rows]
    split = next((name for name in wanted if name in found), None)
    if split is None:
        return items, []
    kept = [item for item, of in zip(items, found, strict=True) if of == split]
    return kept, [f'Of its splits {split} is taken: {counted(len(kept), "image")}.']


def _without_training_images(
    data: str, items: list[Item], checkpoint: str, cfg: Mapping[str, Any], caller: str
) -> tuple[list[Item], list[str]]:
    """Leave out the images that the split assigned to the training."""
    if not _same(data, training_dataset(cfg).get('data_root')):
        return items, []
    file = split_file_of(checkpoint)
    if file is None:
        return items, []
    rows = read_split_table(caller, str(file), data)
    trained = {os.path.join(data, row.path) for row in rows if split_named(row.split) not in ('val', 'test')}
    kept = [item for item in items if item.path not in trained]
    return kept, [
        f'{len(items) - len(kept)} of {len(items)} images are left out, because the model was trained on them ({file}).'
    ]


def split_file_of(checkpoint: str) -> Optional[Path]:
    """Return the split table in the work dir of a checkpoint; None if there is none."""
    places = Path(checkpoint).parent, Path(checkpoint).parent.parent
    return next((place / SPLIT_FILE for place in places if (place / SPLIT_FILE).is_file()), None)


def _is_training_folder(data: str, cfg: Mapping[str, Any]) -> bool:
    """Return whether all images of a folder were trained on; False where a list or a split selects some of them."""
    dataset = training_dataset(cfg)
    prefix = dataset.get('data_prefix') or ''
    if not isinstance(prefix, str) or dataset.get('ann_file') or (dataset.get('split') and not prefix):
        return False
    return _same(data, os.path.join(dataset.get('data_root') or '', prefix))


def training_dataset(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of the dataset of a training, without its wrappers."""
    dataset: Any = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):  # wrappers
        dataset = dataset['dataset']
    return dataset


def _same(one: str, other: Optional[str]) -> bool:
    return bool(other) and os.path.exists(str(other)) and os.path.samefile(one, str(other))
