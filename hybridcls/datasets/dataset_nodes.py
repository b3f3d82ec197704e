"""A dataset as a tree: wrappers of mmengine, mmpretrain and torch are its nodes, datasets with images its leaves."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmpretrain.datasets import KFoldDataset
from torch.utils.data import ConcatDataset, Subset

from hybridcls.compat.mmengine import whole_dataset

__all__ = ['initialize', 'leaves_of', 'nodes_of']


def nodes_of(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, and all datasets that it wraps."""
    dataset = whole_dataset(dataset)
    yield dataset
    for part in _parts_of(dataset):
        yield from nodes_of(part)


def leaves_of(dataset: Any) -> Iterator[Any]:
    """Yield the datasets that wrap no other."""
    yield from (node for node in nodes_of(dataset) if not _parts_of(node))


def _parts_of(dataset: Any) -> Sequence[Any]:
    if isinstance(dataset, ConcatDataset):  # mmengine's too
        return dataset.datasets
    if isinstance(dataset, (ClassBalancedDataset, KFoldDataset, RepeatDataset, Subset)):
        return [dataset.dataset]
    return []


def initialize(dataset: Any) -> None:
    """Load the image lists of a dataset and of all datasets that it wraps, unless that has been done."""
    for node in [*nodes_of(dataset)]:  # torch's Subset passes nothing on
        if hasattr(node, 'full_init'):
            node.full_init()
