"""Datasets of mmengine whose images and metainfo are changed after they were built."""

import pytest
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.runner.runner import _SlicedDataset

from hybridcls.compat.mmengine import rewrite_data, update_metainfo, whole_dataset


class Numbers(BaseDataset):
    """Three images of the classes 0, 1, 2."""

    METAINFO = dict(classes=('a', 'b', 'c'))

    def load_data_list(self):
        return [dict(gt_label=number, img_path=f'{number}.png') for number in range(3)]


@pytest.mark.parametrize('serialize', [True, False])
@pytest.mark.parametrize('lazy', [True, False])
def test_data_are_rewritten_for_all_who_read_them(serialize, lazy):
    dataset = Numbers(serialize_data=serialize, lazy_init=lazy, pipeline=[], indices=[2, 0])
    rewrite_data(dataset, lambda info: {**info, 'gt_label': info['gt_label'] + 5})
    assert [dataset.get_data_info(index)['gt_label'] for index in range(2)] == [7, 5]
    assert [dataset[index]['gt_label'] for index in range(2)] == [7, 5]
    assert [dataset[index]['sample_idx'] for index in range(2)] == [0, 1]
    part = dataset.get_subset([1])
    assert (len(part), part[0]['gt_label'], part[0]['img_path']) == (1, 5, '0.png')


def test_entries_of_metainfo_come_and_go():
    dataset = RepeatDataset(Numbers(), 2)
    update_metainfo(dataset, dict(classes=('x',), more=1))
    assert dataset.metainfo == dict(classes=('x',), more=1)
    update_metainfo(dataset, dict(more=None, never=None))
    assert dataset.metainfo == dict(classes=('x',))
    assert dataset.dataset.metainfo == Numbers.METAINFO
    update_metainfo([1, 2], dict(classes=('x',)))  # a dataset of another kind


def test_a_dataset_that_is_cut_short():
    dataset = Numbers()
    assert whole_dataset(_SlicedDataset(dataset, 1)) is dataset
    assert whole_dataset(dataset) is dataset
