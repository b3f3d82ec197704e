"""Labels of a built dataset, counted and replaced."""

import numpy as np
import pytest
from mmengine.dataset import BaseDataset

from hybridcls.datasets.label_rewriting import labels_in, write_labels


class Labelled(BaseDataset):
    def __init__(self, labels):
        self.labels = labels
        super().__init__()

    def load_data_list(self):
        return [dict(gt_label=label) if label is not None else {} for label in self.labels]


def written(labels, numbers):
    dataset = Labelled(labels)
    write_labels(dataset, numbers, 'val')
    return [dataset.get_data_info(index).get('gt_label') for index in range(len(dataset))]


def test_labels_get_their_new_numbers_whatever_form_they_have():
    assert written([0, 1, -1], {0: 5, 1: 6}) == [5, 6, -1]
    assert written([[0, 1], (1,)], {0: 5, 1: 6}) == [[5, 6], [6]]
    np.testing.assert_array_equal(written([np.array([0, 1])], {0: 5, 1: 6})[0], [5, 6])
    assert written([0, None], {0: 5}) == [5, None]


def test_numbers_that_stay_touch_no_data_set_of_any_kind():
    write_labels([1, 2], {0: 0, 1: None}, 'val')
    with pytest.raises(TypeError, match=r'val: expected a subclass .* got list'):
        write_labels([1, 2], {0: 1}, 'val')


def test_a_label_without_a_class_is_an_error():
    with pytest.raises(ValueError, match='val: expected labels from 0 to 0, one for each class name, got 3'):
        written([3], {0: 1})


def test_labels_are_counted_one_by_one():
    assert labels_in(Labelled([2, 0])) == [2, 0]
    assert labels_in(Labelled([[1, 2], [], [2]])) == [1, 2, 2]
    assert labels_in(Labelled([None])) == []
