"""Weights of positives."""

import pytest
import torch

from hybridcls.models.modules.positive_weight import PositiveWeight, one_for_each


def test_balanced_is_negatives_by_positives():
    module = PositiveWeight('Head', 3, 'balanced')
    assert module.set_counts(torch.tensor([2, 10, 0]), 10) == "pos_weight='balanced' from 0 to 4"
    assert module.weight.tolist() == [4, 0, 1]
    other = PositiveWeight('Head', 3, 'balanced')
    other.load_state_dict(module.state_dict())
    assert other.weight.tolist() == [4, 0, 1]


def test_numbers():
    assert PositiveWeight('Head', 2).weight is None
    assert PositiveWeight('Head', 2, 3).weight.tolist() == [3, 3]
    assert PositiveWeight('Head', 2, [3, 4]).weight.tolist() == [3, 4]


def test_what_does_not_work_is_named():
    with pytest.raises(ValueError, match=r"Head: expected pos_weight to be one of .*'balanced'.*, got 'even'"):
        PositiveWeight('Head', 2, 'even')
    with pytest.raises(ValueError, match='Head: expected pos_weight to have num_classes=2 numbers, got 3'):
        one_for_each('Head', 'pos_weight', [1, 2, 3], 2)
    with pytest.raises(ValueError, match=r'Head: expected pos_weight in \[0, 1\], got 2'):
        one_for_each('Head', 'pos_weight', 2, 2, high=1)
