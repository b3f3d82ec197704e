"""Accuracy with fewer classes than k, against mmpretrain's."""

import pytest
import torch

from hybridcls.evaluation import Accuracy
from hybridcls.registry import METRICS


def samples(classes):
    generator = torch.Generator().manual_seed(0)
    return [
        dict(pred_score=torch.rand(classes, generator=generator), gt_label=torch.tensor([i % classes]))
        for i in range(40)
    ]


def score(metric, of):
    metric.process(None, of)
    return metric.evaluate(len(of))


def test_bare_name_builds_ours():
    assert METRICS.get('Accuracy') is Accuracy


@pytest.mark.parametrize('classes', [5, 12])
def test_equals_mmpretrain_with_enough_classes(classes):
    theirs = METRICS.get('mmpretrain.Accuracy')(topk=(1, 5))
    assert score(Accuracy(topk=(1, 5)), samples(classes)) == score(theirs, samples(classes))


def test_k_above_the_number_of_classes_is_left_out():
    metric, first = Accuracy(topk=(1, 3, 5)), Accuracy(topk=1)
    four = samples(4)
    result = score(metric, four)
    assert set(result) == {'accuracy/top1', 'accuracy/top3'}
    assert result['accuracy/top1'] == score(first, four)['accuracy/top1']
    assert score(Accuracy(topk=5), four) == {}


def test_settings_stay_for_a_set_of_more_classes():
    metric = Accuracy(topk=(1, 5))
    assert list(score(metric, samples(4))) == ['accuracy/top1']
    assert list(metric.directions) == ['top1', 'top1_*', 'top5', 'top5_*']
    assert list(score(metric, samples(12))) == ['accuracy/top1', 'accuracy/top5']
