"""labels_of: class numbers of datasets and wrappers, against the labels of each loaded image."""

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Dataset, Subset, TensorDataset

from hybridcls.datasets import Digits, ImageFolder
from hybridcls.datasets.samplers import class_counts, labels_of
from hybridcls.datasets.samplers.dataset_labels import label_lists


class Listed(BaseDataset):
    """Labels as given, reached through get_data_info only."""

    def __init__(self, labels, **keys):
        self.labels = labels
        super().__init__(**keys)

    def load_data_list(self):
        return [dict(gt_label=label) for label in self.labels]


class WithCatIds(Dataset):
    def __len__(self):
        return 2

    def get_cat_ids(self, index):
        return [index + 5]


def test_labels_of_our_datasets(digit_folder):
    digits = Digits(indices=50)
    assert labels_of(digits).tolist() == [digits.get_data_info(index)['gt_label'] for index in range(50)]
    folder = ImageFolder(data_root=str(digit_folder), data_prefix='train')
    assert np.bincount(labels_of(folder)).tolist() == [12] * 4


@pytest.mark.parametrize('labels', [[2, 0, 1], [[2], [0], [1]], [np.array([2]), np.array(0), np.int64(1)]])
def test_label_types(labels):
    out = labels_of(Listed(labels, serialize_data=False))
    assert out.tolist() == [2, 0, 1]
    assert out.dtype == np.int64


def test_labels_inside_wrappers():
    inner = Listed([0, 0, 0, 0, 0, 0, 1, 2, 2])
    inner.get_cat_ids = lambda index: [inner.get_data_info(index)['gt_label']]
    other = Listed([7, 8])
    for dataset in [
        RepeatDataset(inner, times=2),
        ConcatDataset([inner, other]),
        ClassBalancedDataset(inner, 0.9),
        Subset(inner, [8, 0, 6]),
        Subset(RepeatDataset(inner, times=2), [17, 9, 3]),
    ]:
        expected = [dataset[index]['gt_label'] for index in range(len(dataset))]
        assert labels_of(dataset).tolist() == expected
    assert len(ClassBalancedDataset(inner, 0.9)) > 9
    lazy = Listed([4, 5], lazy_init=True)
    assert labels_of(RepeatDataset(lazy, times=1, lazy_init=True)).tolist() == [4, 5]
    assert labels_of(WithCatIds()).tolist() == [5, 6]


def test_missing_or_several_labels_are_errors(tmp_path):
    with pytest.raises(TypeError, match='labels_of: expected a dataset with labels, got TensorDataset'):
        labels_of(TensorDataset(torch.zeros(2)))
    unlabelled = Listed([1, 2])
    unlabelled.get_data_info = lambda index: dict(img_path='a')
    with pytest.raises(TypeError, match=r'labels_of: expected a dataset with labels, got Listed \(KeyError'):
        labels_of(unlabelled)
    with pytest.raises(TypeError, match='labels_of: expected one label for each image, got 2 for image 1 of Listed'):
        labels_of(Listed([[1], [1, 2]]))


def test_images_of_each_class_are_counted_inside_wrappers():
    several = Listed([[0, 2], [], [2], [4]])
    assert class_counts('me', several, 5).tolist() == [1, 0, 2, 0, 1]
    assert class_counts('me', RepeatDataset(several, 3), 5).tolist() == [3, 0, 6, 0, 3]
    assert class_counts('me', ConcatDataset([several, Listed([1])]), 5).tolist() == [1, 1, 2, 0, 1]
    assert class_counts('me', Subset(several, [0, 1]), 5).tolist() == [1, 0, 1, 0, 0]
    rare = Digits(digits=(3, 7), indices=[*range(9)])
    repeated = ClassBalancedDataset(rare, oversample_thr=0.99)
    assert len(repeated) > len(rare)
    assert class_counts('me', repeated, 2).tolist() == np.bincount(labels_of(repeated)).tolist()
    assert class_counts('me', Listed([[], []]), 2).tolist() == [0, 0]
    assert [own.tolist() for own in label_lists(several)] == [[0, 2], [], [2], [4]]


@pytest.mark.parametrize(('labels', 'wrong'), [([0, 2], 2), ([[-1], []], -1)])
def test_a_label_of_no_class_is_named(labels, wrong):
    with pytest.raises(ValueError, match=rf'me: the training data has the label {wrong}, outside \[0, 1\]'):
        class_counts('me', Listed(labels), 2)
