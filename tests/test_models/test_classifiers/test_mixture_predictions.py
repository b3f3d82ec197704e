"""The mean score of members and its uncertainties, written onto the samples."""

import math

import pytest
import torch
from mmpretrain.structures import DataSample

from hybridcls.models.classifiers.mixture_predictions import aggregate_predictions


def sample(*score, **fields):
    one = DataSample().set_pred_score(torch.tensor(score))
    for name, value in fields.items():
        one.set_field(torch.tensor(value), name, dtype=torch.Tensor)
    return one


def test_two_members_that_disagree():
    target = DataSample().set_gt_label(1)
    (out,) = aggregate_predictions('test', [target], [[sample(1.0, 0.0)], [sample(0.5, 0.5)]])
    assert out is target
    assert out.pred_score.tolist() == [0.75, 0.25]
    assert out.pred_label.tolist() == [0]
    assert out.gt_label.tolist() == [1]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert out.total.item() == pytest.approx(entropy)
    assert out.aleatoric.item() == pytest.approx(math.log(2) / 2)  # the mean of 0 and ln 2
    assert out.epistemic.item() == pytest.approx(entropy - math.log(2) / 2)
    assert 'vacuity' not in out


def test_evidential_members_bring_their_own_aleatoric_part():
    members = [[sample(0.5, 0.5, aleatoric=0.4, vacuity=0.2)], [sample(0.5, 0.5, aleatoric=0.2, vacuity=0.6)]]
    (out,) = aggregate_predictions('test', [DataSample()], members)
    assert out.aleatoric.item() == pytest.approx(0.3)
    assert out.epistemic.item() == pytest.approx(math.log(2) - 0.3)
    assert out.vacuity.item() == pytest.approx(0.4)


def test_members_without_scores():
    with pytest.raises(ValueError, match='test: the head predicts no scores'):
        aggregate_predictions('test', [DataSample()], [[DataSample()]])
