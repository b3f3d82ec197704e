"""Thresholds of classes, against trying all of them."""

import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from hybridcls.functional.multilabel import f1_thresholds, precision_thresholds


def data(seed, decimals=1):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(30, 4, generator=generator).round(decimals=decimals)  # with many equals
    targets = (torch.rand(30, 4, generator=generator) < 0.4 * scores + 0.1).long()
    return scores, targets


def tried(scores, targets):
    """Precision, recall and F1 at each threshold that differs."""
    for threshold in [*scores.unique().tolist(), 1.5]:
        predicted = (scores >= threshold - 1e-9).long()
        yield tuple(score(targets, predicted, zero_division=0) for score in (precision_score, recall_score, f1_score))


@pytest.mark.parametrize('seed', range(4))
def test_the_largest_f1_of_all_thresholds(seed):
    scores, targets = data(seed)
    choice = f1_thresholds(scores, targets)
    for number in range(4):
        here, own = scores[:, number], targets[:, number]
        predicted = (here >= choice.thresholds[number]).long()
        assert f1_score(own, predicted) == pytest.approx(max(f1 for _, _, f1 in tried(here, own)))
        assert choice.f1[number].item() == pytest.approx(f1_score(own, predicted))
        assert choice.precision[number].item() == pytest.approx(precision_score(own, predicted))
        assert choice.recall[number].item() == pytest.approx(recall_score(own, predicted))


@pytest.mark.parametrize('wanted', [0.3, 0.6, 1.0])
@pytest.mark.parametrize('seed', range(3))
def test_the_largest_recall_at_a_precision(seed, wanted):
    scores, targets = data(seed)
    choice = precision_thresholds(scores, targets, wanted)
    for number in range(4):
        here, own = scores[:, number], targets[:, number]
        predicted = (here >= choice.thresholds[number]).long()
        all_tried = list(tried(here, own))
        reached = [recall for precision, recall, _ in all_tried if precision >= wanted and recall > 0]
        if reached:
            assert recall_score(own, predicted) == pytest.approx(max(reached))
            assert precision_score(own, predicted) >= wanted
        else:
            assert precision_score(own, predicted) == pytest.approx(max(precision for precision, _, _ in all_tried))


def test_edges():
    scores = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    choice = f1_thresholds(scores, torch.tensor([[1, 0, 0], [1, 1, 0]]))
    assert choice.thresholds[:2].tolist() == [0.0, 0.5]  # all zeros, all of them positive: predict all
    assert choice.thresholds[2].isnan()  # no positive
    assert choice.f1[2].isnan()
    near = torch.tensor([[0.5], [0.5 + 2**-24]])  # neighbours in float32
    choice = f1_thresholds(near, torch.tensor([[0], [1]]))
    assert (near >= choice.thresholds).flatten().tolist() == [False, True]
