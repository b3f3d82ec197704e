"""Read the class of every image of a dataset, inside mmengine's wrappers too, without loading images."""

from contextlib import suppress
from typing import Any

import numpy as np
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Subset

__all__ = ['labels_of']


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
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if isinstance(dataset, RepeatDataset):
        return np.tile(labels_of(dataset.dataset), dataset.times)
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([labels_of(part) for part in dataset.datasets])
    if isinstance(dataset, ClassBalancedDataset):
        return labels_of(dataset.dataset)[dataset.repeat_indices]
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    name = type(dataset).__name__
    try:
        labels = _read_labels(dataset)
    except (AttributeError, KeyError) as error:
        raise TypeError(
            f'labels_of: expected a dataset with labels, got {name} ({type(error).__name__}: {error}). Implement '
            "get_gt_labels() or get_data_info(index)['gt_label']; for ImageFolder set with_label=True."
        ) from error
    # One label may be 3, [3] or array([3]).
    flat = [np.ravel(label) for label in labels]
    several = next((index for index, label in enumerate(flat) if label.size != 1), None)
    if several is not None:
        raise TypeError(
            f'labels_of: expected one label for each image, got {flat[several].size} for image {several} of {name}.'
        )
    # mmengine's `num_batch_per_epoch` shortens a dataset, but not what its methods return.
    return np.asarray([label[0] for label in flat], dtype=np.int64)[: len(dataset)]


def _read_labels(dataset: Any) -> list:
    if hasattr(dataset, 'get_gt_labels'):
        return list(dataset.get_gt_labels())
    indices = range(len(dataset))
    if hasattr(dataset, 'get_cat_ids'):
        with suppress(NotImplementedError):  # mmengine's BaseDataset has the method, without a body
            return [dataset.get_cat_ids(index) for index in indices]
    return [dataset.get_data_info(index)['gt_label'] for index in indices]
