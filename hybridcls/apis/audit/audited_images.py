"""The images that trained a model, with the labels they had."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hybridcls.checks import listed
from hybridcls.structures.sample_record import SAMPLE_RECORD_FILE, SampleRecord

from ..held_out_images import training_dataset
from ..image_inputs import Item, read_inputs
from ..inferencer import HybridInferencer

__all__ = ['TrainingImages', 'training_images']


@dataclass
class TrainingImages:
    """N images with labels.

    Args:
        items (list[Item]): The images.
        labels (np.ndarray): Class numbers, int64 (N,).
        classes (tuple[str, ...]): The names of the classes.
        root (str): The folder that their paths start from; ``''`` where they have no common one.
        record (SampleRecord, optional): What the training recorded of these images, in this order.
        notes (list[str]): Sentences about where they come from.
    """

    items: list[Item]
    labels: np.ndarray
    classes: tuple[str, ...]
    root: str
    record: Optional[SampleRecord]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.items)

    def part(self, items: list[Item]) -> 'TrainingImages':
        """Return those of some of the images, in their order."""
        row_of = {item.path: row for row, item in enumerate(self.items)}
        rows = np.array([row_of[item.path] for item in items], np.int64)
        record = None if self.record is None else self.record.part(rows)
        return TrainingImages(items, self.labels[rows], self.classes, self.root, record, self.notes)

    def names(self) -> list[str]:
        """Return the paths as a table names them: below ``root``, where they are."""
        above = os.path.join(self.root, '') if self.root else ''
        return [str(item.path).removeprefix(above) for item in self.items]


def training_images(model: HybridInferencer, data: Optional[str] = None) -> TrainingImages:
    """Find the images that trained a model.

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
        'The training was not recorded: what it saw while it learned is not known, and the model has learned these '
        'labels. A record tells more: train with --record.'
    )
    if data is not None:
        items, root = list(read_inputs(data, 'audit').items), data if os.path.isdir(data) else os.path.dirname(data)
    else:
        items, root = _of_config(model.config, model.checkpoint_path)
    number_of = {name: number for number, name in enumerate(model.classes)}
    labels = np.array([number_of.get(model.class_of(item.label) or '', -1) for item in items], np.int64)
    if not (labels >= 0).any():
        raise ValueError(
            f'audit: expected images of the classes of the model ({listed(model.classes, 5)}), got none. Name class '
            'folders as the classes, or a table with path and label: --data DATA.'
        )
    notes = [note]
    if (labels < 0).any():
        notes.append(f'{(labels < 0).sum()} images have no label that the model has a class for: left out.')
    kept = np.flatnonzero(labels >= 0)
    return TrainingImages([items[row] for row in kept], labels[kept], model.classes, root, None, notes)


def find_record(checkpoint: str) -> Optional[SampleRecord]:
    """Return the record beside a checkpoint, if there is one."""
    file = Path(checkpoint).parent / SAMPLE_RECORD_FILE
    return SampleRecord.read(file) if file.is_file() else None


def _of_record(model: HybridInferencer, record: SampleRecord, data: Optional[str]) -> TrainingImages:
    if tuple(record.classes) != tuple(model.classes):
        raise ValueError(
            f'audit: expected a record of the classes of the checkpoint ({listed(model.classes, 5)}), got one of '
            f'{listed(record.classes, 5)}. The record in this folder is of another training.'
        )
    root, paths = record.root, record.paths
    if data is not None:
        if not os.path.isdir(data):
            raise ValueError(
                f'audit: expected --data to be the folder where the recorded images are now, got {data!r}. The '
                'training was recorded: without --data its images are looked for where they were.'
            )
        root = os.path.abspath(data)
        above = os.path.join(record.root, '')
        paths = [os.path.join(root, path.removeprefix(above)) for path in record.paths]
    items = [Item(path, path, record.classes[label]) for path, label in zip(paths, record.labels, strict=True)]
    note = (
        f'The training was recorded in {record.seen.max()} epochs ({len(record.epochs)} of them are kept one by one).'
    )
    notes = [note]
    if not paths[0].startswith('#') and not any(map(os.path.isfile, paths[:100])):
        notes.append(
            f'The images are not where they were ({paths[0]}): the page has no pictures. Where they are now: '
            '--data FOLDER.'
        )
    return TrainingImages(items, record.labels.astype(np.int64), tuple(record.classes), root, record, notes)


def _of_config(cfg: Mapping[str, Any], checkpoint: str) -> tuple[list[Item], str]:
    """List the images of the training set of a config."""
    from hybridcls.registry import DATASETS

    settings = dict(training_dataset(cfg))
    advice = 'Name labelled images: --data DATA.'
    if not settings.get('type'):
        raise FileNotFoundError(f'audit: expected a config with training images in {checkpoint}, got none. {advice}')
    try:
        dataset = DATASETS.build({**settings, 'pipeline': [], 'lazy_init': False})
        infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    except (OSError, ValueError, TypeError) as error:
        raise FileNotFoundError(
            f'audit: the images of the training are not found ({error}). {advice} If only their folder has moved, '
            'name it.'
        ) from error
    names = (dataset.metainfo or {}).get('classes') or ()
    if not all(info.get('img_path') for info in infos):
        raise ValueError(f'audit: expected training images with files, got some in memory. {advice}')
    items = [Item(info['img_path'], info['img_path'], str(names[int(info['gt_label'])])) for info in infos]
    return items, os.path.abspath(getattr(dataset, 'img_prefix', ''))
