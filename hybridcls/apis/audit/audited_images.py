"""The images of a training, with the labels they had in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted, listed
from hybridcls.datasets.class_folders import folders_in
from hybridcls.datasets.dataset_nodes import leaves_of
from hybridcls.datasets.split_file import read_split_table
from hybridcls.datasets.split_names import split_folders, split_named
from hybridcls.structures.sample_record import SAMPLE_RECORD_FILE, SampleRecord

from ..held_out_images import split_file_of, training_dataset
from ..image_inputs import Item, read_inputs
from ..inferencer import HybridInferencer
from ..report.configured_images import place_of
from .decided_before import DecidedImage, decided_before, name_key

__all__ = ['TrainingImages', 'no_images', 'training_images']

_MOVED = 'Type --data DATA with their new place, or with other labelled images.'


@dataclass
class TrainingImages:
    """The N training images with their labels and, if recorded, their sample record.

    Args:
        items (list[Item]): The images.
        labels (np.ndarray): Class numbers, int64 (N,).
        classes (tuple[str, ...]): The names of the classes.
        root (str): The folder that their paths start from; ``''`` where they are in several, or in memory.
        record (SampleRecord, optional): What the training recorded of these images, in this order.
        notes (list[str]): Sentences about where they come from.
        decided (list[DecidedImage]): What was decided before the training, on images that are not among these, too.
    """

    items: list[Item]
    labels: np.ndarray
    classes: tuple[str, ...]
    root: str
    record: Optional[SampleRecord]
    notes: list[str]
    decided: list[DecidedImage] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def part(self, items: list[Item]) -> 'TrainingImages':
        """Return the subset with these images, in their order."""
        row_of = {item.path: row for row, item in enumerate(self.items)}
        rows = np.array([row_of[item.path] for item in items], np.int64)
        record = None if self.record is None else self.record.part(rows)
        return replace(self, items=items, labels=self.labels[rows], record=record)

    def are_there(self) -> bool:
        """Return whether any image file exists; a record may list images that have been deleted since."""
        if self.record is None:
            return len(self) > 0
        return any('://' in path or os.path.isfile(path) for path in map(str, (item.path for item in self.items)))

    def names(self) -> list[str]:
        """Return the paths as in tables: relative to ``root``, if they are below it."""
        above = os.path.join(self.root, '') if self.root else ''
        return [str(item.path).removeprefix(above) for item in self.items]

    def decided_rows(self) -> dict[int, DecidedImage]:
        """Return the earlier decision on each of these images that has one, by row."""
        if not self.decided:
            return {}
        found = {name_key(one.name): one for one in self.decided}
        keys = (name_key(name) for name in self.names())
        return {row: found[key] for row, key in enumerate(keys) if key in found}

    def given_labels(self) -> list[str]:
        """Return the labels of the data, which differ from those of the training for relabelled images.

        A label is ``''`` where the table that relabelled its image did not name it.
        """
        names = [self.classes[label] for label in self.labels]
        for row, one in self.decided_rows().items():
            names[row] = one.label if one.decision == 'relabel' else names[row]
        return names


def training_images(model: HybridInferencer, data: Optional[str] = None) -> TrainingImages:
    """Find the training images of a checkpoint.

    The record of the training lists them. Without one, its config does, where its images are still there; or ``data``.

    Args:
        model (HybridInferencer): With classes, one an image.
        data (str, optional): With a record the folder where the images are now, if they have moved; without one
            labelled images: class folders, or a table with ``path`` and ``label``. Defaults to None.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If no image has a class of the model, or the record is of other classes.
    """
    record = find_record(model.checkpoint_path)
    if record is not None:
        return _of_record(model, record, data)
    note = (
        'The training was not recorded, so only the trained model judges the labels, which it has learned. An audit '
        'finds more after a training with --record.'
    )
    notes = [note]
    if data is not None:
        items, root, more = _of_data(data, model.checkpoint_path)
        notes += more
    else:
        items, root = _of_config(model.config, model.checkpoint_path)
    decided, lost = decided_before(model.config, model.checkpoint_path, root)
    number_of = {name: number for number, name in enumerate(model.classes)}
    labels = np.array([number_of.get(model.class_of(item.label) or '', -1) for item in items], np.int64)
    if not (labels >= 0).any():
        raise ValueError(
            f'audit: expected images of the classes of the model ({listed(model.classes, 5)}), got none. Name class '
            'folders as the classes, or a table with path and label: --data DATA.'
        )
    notes += lost
    if (labels < 0).any():
        unknown = counted(int((labels < 0).sum()), 'image')
        notes.append(f'Left out because the model has no class for their label: {unknown}.')
    images = TrainingImages(items, labels, model.classes, root, None, notes, decided)
    for row, one in images.decided_rows().items():  # as the training had them
        labels[row] = -1 if one.decision == 'drop' else number_of.get(one.new, labels[row])
    kept = np.flatnonzero(labels >= 0)
    return replace(images, items=[items[row] for row in kept], labels=labels[kept])


def no_images(model: HybridInferencer, reason: str) -> TrainingImages:
    """Return an empty list of images, with the earlier decisions, where the training images are missing.

    Args:
        model (HybridInferencer): With classes.
        reason (str): A sentence.
    """
    decided, lost = decided_before(model.config, model.checkpoint_path)
    notes = [f'The labels of the training images are not checked: {reason}', *lost]
    return TrainingImages([], np.zeros(0, np.int64), model.classes, '', None, notes, decided)


def find_record(checkpoint: str) -> Optional[SampleRecord]:
    """Return the sample record beside a checkpoint; None if there is none."""
    file = Path(checkpoint).parent / SAMPLE_RECORD_FILE
    return SampleRecord.read(file) if file.is_file() else None


def _of_record(model: HybridInferencer, record: SampleRecord, data: Optional[str]) -> TrainingImages:
    if tuple(record.classes) != tuple(model.classes):
        raise ValueError(
            f'audit: expected a record of the classes of the checkpoint ({listed(model.classes, 5)}), got one of '
            f'{listed(record.classes, 5)}. The record in this folder is of another training.'
        )
    root, paths = record.root, record.paths
    in_memory = all(path.startswith('#') for path in paths)
    if root and not all(path.startswith(os.path.join(root, '')) for path in paths):
        root = ''  # of several folders, where one name may be of two images: their names are whole paths
    if data is not None:
        if not os.path.isdir(data):
            raise ValueError(
                f'audit: expected --data to be the folder where the recorded images are now, got {data!r}. The '
                'training was recorded: without --data its images are looked for where they were.'
            )
        before = root or ('' if in_memory else os.path.commonpath(paths))
        paths = [os.path.join(os.path.abspath(data), path.removeprefix(os.path.join(before, ''))) for path in paths]
        root = os.path.abspath(data) if root else ''
    items = [Item(path, path, record.classes[label]) for path, label in zip(paths, record.labels, strict=True)]
    kept = f' (kept one by one: {len(record.epochs)})' if len(record.epochs) < record.seen.max() else ''
    note = f'The training was recorded in {counted(int(record.seen.max()), "epoch")}{kept}.'
    decided, lost = decided_before(model.config, model.checkpoint_path, record.root if root else '')
    notes = [note, *lost]
    images = TrainingImages(items, record.labels.astype(np.int64), tuple(record.classes), root, record, notes, decided)
    if images.are_there():
        return images
    if data is not None:
        raise ValueError(
            f'audit: expected the {len(images)} recorded images below --data {data}, got none of them ({paths[0]} '
            f'...). They were below {before or "no common folder"}: name the folder that is in its place.'
        )
    where = 'The images were in memory' if in_memory else f'The images are not where they were ({paths[0]})'
    notes.append(
        f'{where}: suspects come from the training record alone, without votes of similar images and without '
        f'pictures.{"" if in_memory else " If the images have moved: --data FOLDER."}'
    )
    return images


def _of_data(data: str, checkpoint: str) -> tuple[list[Item], str, list[str]]:
    """List labelled images, without those that the split in the work dir assigned to validation or test."""
    if not os.path.isdir(data):
        return list(read_inputs(data, 'audit').items), os.path.dirname(data), []
    root = os.path.join(data, split_folders(folders_in(data)).get('train', ''))
    items = list(read_inputs(root, 'audit').items)
    file = split_file_of(checkpoint)
    if file is None:
        return items, root, []
    rows = read_split_table('audit', str(file), root)
    held_out = {os.path.join(root, row.path) for row in rows if split_named(row.split) in ('val', 'test')}
    kept = [item for item in items if item.path not in held_out]
    left = len(items) - len(kept)
    note = f'Left out because the model was not trained on them ({file}): {counted(left, "image", of=len(items))}.'
    return kept, root, [note] if left else []


def _of_config(cfg: Mapping[str, Any], checkpoint: str) -> tuple[list[Item], str]:
    """List the images of the training set of a config."""
    from hybridcls.registry import DATASETS

    settings = _undecided(training_dataset(cfg))
    advice = 'Type --data DATA with labelled images.'
    if not settings.get('type'):
        raise FileNotFoundError(f'audit: expected a config with training images in {checkpoint}, got none. {advice}')
    place = place_of(settings, checkpoint)
    if place is not None and not os.path.exists(place):
        raise FileNotFoundError(f'audit: the images of the training, {place}, are not there. {_MOVED}')
    try:
        dataset = DATASETS.build({**settings, 'lazy_init': False})
        infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    except (OSError, ValueError, TypeError) as error:
        raise FileNotFoundError(f'audit: the images of the training cannot be listed: {error} {_MOVED}') from error
    names = (dataset.metainfo or {}).get('classes') or ()
    if not all(info.get('img_path') for info in infos):
        raise ValueError(f'audit: expected training images with files, got some in memory. {advice}')
    infos = list({os.path.abspath(info['img_path']): info for info in infos}.values())  # a part may repeat its images
    items = [Item(info['img_path'], info['img_path'], str(names[int(info['gt_label'])])) for info in infos]
    folders = {getattr(leaf, 'img_prefix', '') for leaf in leaves_of(dataset)}
    folder = folders.pop() if len(folders) == 1 else ''  # of several, equal names may be other images
    return items, os.path.abspath(folder) if folder else ''


def _undecided(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a dataset without decisions, which are put in later: their tables may be gone."""
    parts: dict[str, Any] = {
        key: [_undecided(one) for one in dataset[key]] for key in ('datasets',) if dataset.get(key)
    }
    parts |= {key: _undecided(dataset[key]) for key in ('dataset',) if isinstance(dataset.get(key), Mapping)}
    kept = {key: value for key, value in dataset.items() if key not in ('drop', 'relabel')}
    return {**kept, **(parts or {'pipeline': []})}
