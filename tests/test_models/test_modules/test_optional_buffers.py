"""Buffers that a checkpoint may lack or have in vain, and counts of images."""

import copy
import pickle

import pytest
import torch

from hybridcls.models.modules.optional_buffers import ClassCounts, OptionalBuffers


class Kept(OptionalBuffers):
    def __init__(self, in_checkpoint, value=0.0):
        super().__init__()
        self.keep('number', torch.tensor(value), in_checkpoint)
        self.times = 0

    def loaded(self):
        self.times += 1


class Counted(ClassCounts):
    def follow(self, counts, num_images):
        self.followed = counts.tolist(), num_images
        return 'said'


def test_a_kept_buffer_is_saved_and_loaded():
    kept = Kept(True)
    kept.load_state_dict(Kept(True, 3.0).state_dict())
    assert (kept.number.item(), kept.times) == (3.0, 1)


def test_copies_load_into_themselves():
    for copied in (copy.deepcopy(Kept(True)), pickle.loads(pickle.dumps(Kept(True)))):
        copied.load_state_dict(Kept(True, 3.0).state_dict())
        assert (copied.number.item(), copied.times) == (3.0, 1)


def test_a_checkpoint_without_the_buffer_leaves_it():
    kept = Kept(True, 2.0)
    kept.load_state_dict({})
    assert kept.number.item() == 2.0


def test_a_buffer_that_is_not_kept_is_neither_saved_nor_loaded():
    kept = Kept(False, 2.0)
    assert not kept.state_dict()
    kept.load_state_dict(Kept(True, 3.0).state_dict())
    assert kept.number.item() == 2.0


def test_counts_are_followed_when_set_and_when_loaded():
    counted, other = Counted('Head', 2, 'class_weight'), Counted('Head', 2, 'class_weight')
    with pytest.raises(RuntimeError, match=r'^Head: expected the number of .* for class_weight, got none.*ClassCounts'):
        counted.check_known()
    other.load_state_dict(counted.state_dict())
    with pytest.raises(RuntimeError):  # a checkpoint that has no counts yet
        other.check_known()
    assert counted.set_counts(torch.tensor([3, 0]), 4) == 'said'
    other.load_state_dict(counted.state_dict())
    for one in (counted, other):
        one.check_known()
        assert one.followed == ([3, 0], 4)
    with pytest.raises(ValueError, match='Head: expected counts of num_classes=2 classes, got 3'):
        counted.set_counts([1, 2, 3], 6)


def test_without_a_setting_there_are_no_counts():
    counted = Counted('Head', 2, '')
    assert not counted.state_dict()
    counted.check_known()
    counted.load_state_dict(Counted('Head', 2, 'class_weight').state_dict())
