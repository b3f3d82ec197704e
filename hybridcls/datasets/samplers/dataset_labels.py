"""Read the class of every image of a dataset, also inside mmengine's wrappers, without loading images."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Subset

__all__ = ['class_counts', 'label_lists', 'labels_of']


def labels_of(dataset: Any) -> np.ndarray:
    """Return the class number of each image.

    Args:
        dataset: Anything with ``get_gt_labels()`` or ``get_cat_ids(index)`` or ``get_data_info(index)['gt_label']``
            (mmpretrain's datasets have all three), bare or inside RepeatDataset, ConcatDataset, ClassBalancedDataset
            or torch's Subset.

    Returns:
        np.ndarray: ``(len(dataset),)`` int64.

    Raises:
        TypeError: If the dataset has no labels, or several for an image.

    Example:
        >>> from hybridcls.datasets import Digits
        >>> labels_of(RepeatDataset(Digits(split='test', indices=3), times=2)).tolist()
        [1, 4, 8, 1, 4, 8]
    """
    return _through_wrappers(dataset, _single_labels)


def class_counts(caller: str, dataset: Any, num_classes: int) -> torch.Tensor:
    """Count the images of each class, with the repeats of wrappers; images may have any number of labels.

    Args:
        caller (str): Name used as the error prefix.
        dataset: As for :func:`labels_of`.
        num_classes (int): C; a class without images has the count 0.

    Returns:
        Tensor: int64, shape (C,).

    Raises:
        TypeError: If the dataset has no labels.
        ValueError: If a label is outside [0, C).

    Example:
        >>> from hybridcls.datasets import Digits
        >>> class_counts('example', RepeatDataset(Digits(split='test', indices=3), times=2), 10)
        tensor([0, 2, 0, 0, 2, 0, 0, 0, 2, 0])
    """
    labels = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *label_lists(dataset)]))
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        wrong = int(labels.max() if labels.max() >= num_classes else labels.min())
        raise ValueError(
            f'{caller}: the training data has the label {wrong}, outside [0, {num_classes - 1}] '
            f'(num_classes={num_classes} in the head).'
        )
    return torch.bincount(labels, minlength=num_classes)


def label_lists(dataset: Any) -> np.ndarray:
    """Return the class numbers of each image, an array of int64 arrays of any length; see :func:`labels_of`.

    Raises:
        TypeError: If the dataset has no labels.
    """
    return _through_wrappers(dataset, _label_lists)


def _through_wrappers(dataset: Any, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Apply ``read`` to the wrapped datasets, and return one entry per image with the repeats of the wrappers."""
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if isinstance(dataset, RepeatDataset):
        return np.tile(_through_wrappers(dataset.dataset, read), dataset.times)
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([_through_wrappers(part, read) for part in dataset.datasets])
    if isinstance(dataset, ClassBalancedDataset):
        return _through_wrappers(dataset.dataset, read)[dataset.repeat_indices]
    if isinstance(dataset, Subset):
        return _through_wrappers(dataset.dataset, read)[np.asarray(dataset.indices, dtype=np.int64)]
    return read(dataset)


def _label_lists(dataset: Any) -> np.ndarray:
    name = type(dataset).__name__
    try:
        labels = _read_labels(dataset)
    except (AttributeError, KeyError) as error:
        raise TypeError(
            f'labels_of: expected a dataset with labels, got {name} ({type(error).__name__}: {error}). Implement '
            "get_gt_labels() or get_data_info(index)['gt_label']; for ImageFolder set with_label=True."
        ) from error
    # mmengine's `num_batch_per_epoch` shortens a dataset, but not what its methods return.
    flat = np.empty(len(labels), dtype=object)
    flat[:] = [np.ravel(label).astype(np.int64) for label in labels]  # one label may be 3, [3] or array([3])
    return flat[: len(dataset)]


def _single_labels(dataset: Any) -> np.ndarray:
    flat = _label_lists(dataset)
    several = next((index for index, label in enumerate(flat) if label.size != 1), None)
    if several is not None:
        raise TypeError(
            f'labels_of: expected one label for each image, got {flat[several].size} for image {several} of '
            f'{type(dataset).__name__}.'
        )
    return np.asarray([label[0] for label in flat], dtype=np.int64)


def _read_labels(dataset: Any) -> list:
    if hasattr(dataset, 'get_gt_labels'):
        with suppress(ValueError):  # mmpretrain's makes one array, which labels of several a sample do not fit into
            return list(dataset.get_gt_labels())
    indices = range(len(dataset))
    if hasattr(dataset, 'get_cat_ids'):
        with suppress(NotImplementedError):  # mmengine's BaseDataset has the method, without a body
            return [dataset.get_cat_ids(index) for index in indices]
    return [dataset.get_data_info(index)['gt_label'] for index in indices]
