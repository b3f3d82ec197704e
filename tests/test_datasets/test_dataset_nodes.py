"""A dataset as a tree of wrappers."""

from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.runner.runner import _SlicedDataset
from torch.utils.data import ConcatDataset, Subset

from hybridcls.datasets.dataset_nodes import initialize, leaves_of, nodes_of


class One(BaseDataset):
    def load_data_list(self):
        return [{}]


def test_nodes_come_before_what_they_wrap_and_leaves_wrap_nothing():
    first, second = One(), One()
    repeated = RepeatDataset(second, 2)
    joined = ConcatDataset([first, repeated])
    assert list(nodes_of(_SlicedDataset(joined, 1))) == [joined, first, repeated, second]
    assert list(leaves_of(joined)) == [first, second]


def test_all_that_is_inside_is_initialized():
    inner = One(lazy_init=True)
    initialize(Subset(inner, [0]))
    assert inner._fully_initialized
