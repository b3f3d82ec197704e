"""Build the datasets of a config without a model: their images, labels and classes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from mmengine.config import Config

from hybridcls.datasets.class_numbering import class_names_of
from hybridcls.datasets.dataset_nodes import leaves_of
from hybridcls.datasets.samplers.dataset_labels import label_lists
from hybridcls.engine.config.data_splits import open_splits
from hybridcls.engine.config.tree import value_at, walk

from .finding import Finding, of_error
from .subject import Subject

__all__ = ['SPLITS', 'DataPart', 'build_part', 'build_parts']

SPLITS = ('train', 'val', 'test')
# Datasets that would read all files at the start; here the scan does.
_UNREAD: dict[str, Any] = dict(verify=False, cache=None)


@dataclass
class DataPart:
    """One built dataset.

    Args:
        split (str): ``'train'``, ``'val'`` or ``'test'``.
        dataset (Any): Built.
        paths (list[str]): Of its image files; empty where images are in memory.
        labels (list[tuple[int, ...]]): The class numbers of each image, as wrappers repeat it; empty without labels.
        classes (tuple[str, ...]): Their names.
        labels_of_paths (list[tuple[int, ...]]): The class numbers of each path.
        has_pipeline (bool): Whether it could be built with its pipeline.
    """

    split: str
    dataset: Any
    paths: list[str] = field(default_factory=list)
    labels: list[tuple[int, ...]] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    labels_of_paths: list[tuple[int, ...]] = field(default_factory=list)
    has_pipeline: bool = True

    @property
    def key(self) -> str:
        """The config key of the dataset."""
        return f'{self.split}_dataloader.dataset'

    def name_of(self, number: int) -> str:
        """Return the name of a class."""
        return self.classes[number] if 0 <= number < len(self.classes) else str(number)

    def count_classes(self) -> dict[str, int]:
        """Return the number of images of each class, by name; classes without images count 0."""
        counts = dict.fromkeys(self.classes, 0)
        for numbers in self.labels:
            for number in numbers:
                counts[self.name_of(number)] = counts.get(self.name_of(number), 0) + 1
        return counts


def build_parts(subject: Subject) -> Iterator[Finding]:
    """Build the datasets of a config into ``subject.parts``, and yield a finding for each error."""
    done: list[tuple[Any, DataPart]] = []
    for split in SPLITS:
        cfg = value_at(subject.cfg, (f'{split}_dataloader', 'dataset'))
        if not cfg or any(path[0] == f'{split}_dataloader' for path, _ in open_splits(subject.cfg)):
            continue  # the images could not be divided, which is told
        same = next((part for other, part in done if other == cfg), None)  # test_dataloader = val_dataloader
        if same is not None:
            subject.parts[split] = DataPart(
                split, same.dataset, same.paths, same.labels, same.classes, same.labels_of_paths
            )
            continue
        part, finding = build_part(cfg, split, subject.cfg)
        # Of a config that could not be completed a pipeline may have open places, which is no mistake of its own.
        if finding is not None and (subject.is_complete or part is None or part.has_pipeline):
            yield finding
        if part is not None:
            subject.parts[split] = part
            done.append((cfg, part))


def build_part(cfg: Any, split: str, whole: Config) -> tuple[Optional[DataPart], Optional[Finding]]:
    """Build one dataset; if it fails, retry with lenient settings, and return the first error as a finding."""
    findings: list[Finding] = []
    attempts: tuple[dict, ...] = ({}, dict(empty_classes='warn'), dict(pipeline=[]))
    for more in attempts:
        try:
            part = _look_into(_built(cfg, more), split)
            part.has_pipeline = 'pipeline' not in more
            return part, next(iter(findings), None)
        except Exception as error:  # datasets of any package may raise any error
            findings.append(of_error(error, f'{split}_dataloader.dataset', whole))
    return None, findings[-1]  # not of the pipeline, which the last attempt leaves out


def _built(cfg: Any, more: dict) -> Any:
    from copy import deepcopy

    from hybridcls.datasets import ImageFolder
    from hybridcls.engine.config.tree import is_a
    from hybridcls.registry import DATASETS

    if not isinstance(cfg, dict):
        return cfg
    cfg = deepcopy(cfg)
    for _, node in walk(cfg):
        if isinstance(node, dict) and is_a('DATASETS', node, ImageFolder):
            node.update(_UNREAD, **more)
    with DATASETS.switch_scope_and_registry('hybridcls') as registry:
        return registry.build(cfg)


def _look_into(dataset: Any, split: str) -> DataPart:
    part = DataPart(split, dataset)
    try:
        part.labels = [tuple(np.ravel(one).tolist()) for one in label_lists(dataset)]
    except TypeError:  # without labels
        part.labels = []
    names = class_names_of(dataset)
    part.classes = () if names is None else names.names
    for leaf in leaves_of(dataset):
        if not hasattr(leaf, 'get_data_info'):
            continue
        infos = [leaf.get_data_info(number) for number in range(len(leaf))]
        if infos and 'img_path' in infos[0]:
            part.paths += [str(info['img_path']) for info in infos]
            part.labels_of_paths += [tuple(np.ravel(info.get('gt_label', ())).tolist()) for info in infos]
    return part
