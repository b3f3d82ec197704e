"""The datasets inside wrappers, and the LoadImage steps of their pipelines."""

import pytest
from mmcv.transforms import RandomApply
from mmengine.dataset import Compose, ConcatDataset, RepeatDataset
from torch.utils.data import Subset

from hybridcls.datasets import Digits
from hybridcls.datasets.dataset_parts import keep_version, loaders_of, parts_of
from hybridcls.datasets.transforms import LoadImage


def test_parts_inside_wrappers():
    one, two = Digits(split='test'), Digits(split='train')
    assert [*parts_of(one)] == [one]
    assert [*parts_of(ConcatDataset([one, two]))] == [one, two]
    assert [*parts_of(Subset(RepeatDataset(two, 2), [1]))] == [two]


def test_attributes_named_dataset_are_not_parts():
    named = Digits(split='test')
    named.dataset, named.datasets = 'digits', ['digits']
    assert [*parts_of(named)] == [named]


def test_loaders_at_any_depth():
    first, second = LoadImage(), LoadImage()
    assert [*loaders_of(Compose([first, RandomApply([second]), dict]))] == [first, second]
    assert [*loaders_of(None)] == []


def test_an_open_version_becomes_that_of_the_checkpoint():
    written, free = LoadImage(version=2), LoadImage()
    assert keep_version([written, free], 1)
    assert (written.version, free.version) == (2, 1)
    assert not keep_version([LoadImage()], 2)
    assert not keep_version([LoadImage()], None)
    with pytest.raises(ValueError, match='expected preprocessing version 2 or earlier of a checkpoint, got 3'):
        keep_version([LoadImage()], 3)
