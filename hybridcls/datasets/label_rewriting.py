"""Read and replace the labels of a built dataset."""

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
from mmengine.dataset import BaseDataset

from hybridcls.compat.mmengine import rewrite_data
from hybridcls.structures import UNKNOWN_LABEL

from .samplers.dataset_labels import label_lists

__all__ = ['labels_in', 'write_labels']


def labels_in(leaf: Any) -> list[int]:
    """Return the labels of all images in one list; empty if there are none."""
    try:
        return [label for labels in label_lists(leaf) for label in labels.tolist()]
    except TypeError:  # no labels: nothing to count or compare
        return []


def write_labels(leaf: Any, number_of: Mapping[int, Optional[int]], what: str) -> None:
    """Replace the labels of a dataset, if any changes. (A class without a number has no image.)"""
    if all(new is None or new == old for old, new in number_of.items()):
        return
    if not isinstance(leaf, BaseDataset):
        raise TypeError(
            f"{what}: expected a subclass of mmengine's BaseDataset, whose labels can be renumbered, got "
            f'{type(leaf).__name__} with different class numbers than the model. Number its classes as the model does.'
        )

    def renumbered(info: dict) -> dict:
        if 'gt_label' not in info:
            return info
        label = info['gt_label']
        if isinstance(label, np.ndarray) and label.ndim:
            return {**info, 'gt_label': np.asarray([new_label(one) for one in label], dtype=label.dtype)}
        if isinstance(label, (list, tuple)):
            return {**info, 'gt_label': [new_label(one) for one in label]}
        return {**info, 'gt_label': new_label(label)}

    def new_label(label: Any) -> int:
        number = UNKNOWN_LABEL if label == UNKNOWN_LABEL else number_of.get(int(label))
        if number is None:
            raise ValueError(
                f'{what}: expected labels from 0 to {len(number_of) - 1}, one for each class name, got {label}.'
            )
        return number

    rewrite_data(leaf, renumbered)
