"""Accuracy with fewer classes than k, against mmpretrain's."""

import pytest
import torch
from scipy import stats

from hybridcls.evaluation import Accuracy, MissingFieldError
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


def test_interval_is_the_exact_one_and_has_a_direction():
    metric = Accuracy(topk=(1, 3), confidence=0.9)
    result = score(metric, samples(5))
    expected = stats.binomtest(round(result['accuracy/top3'] * 40 / 100), 40).proportion_ci(0.9)
    assert result['accuracy/top3_low'] == pytest.approx(100 * expected.low)
    assert result['accuracy/top3_high'] == pytest.approx(100 * expected.high)
    assert metric.directions['top1_low'] == 'greater'
    assert [name for name in result if 'top1' in name] == ['accuracy/top1', 'accuracy/top1_low', 'accuracy/top1_high']


def test_images_of_a_group_are_one_observation():
    of_groups = [dict(sample, group=place // 4) for place, sample in enumerate(samples(5))]
    same = [dict(sample, group=place) for sample in of_groups[::4] for place in [sample['group']] * 4]
    by_group, by_image = (score(Accuracy(confidence=0.95, group=group), same) for group in ('group', None))
    assert by_group['accuracy/top1'] == by_image['accuracy/top1']
    assert by_group['accuracy/top1_low'] < by_image['accuracy/top1_low']
    of_few = Accuracy(confidence=0.95, group='group')
    few = score(of_few, of_groups[:8])
    assert 'accuracy/top1' in few
    assert 'accuracy/top1_low' not in few  # two groups that do not agree
    assert of_few.no_result == 'An interval at confidence=0.95 needs at least 6 groups, got 2.'
    with pytest.raises(MissingFieldError, match=r"^Accuracy: expected group='group' in sample \?, got gt_label"):
        score(Accuracy(confidence=0.95, group='group'), samples(5))
    with pytest.raises(ValueError, match=r"^Accuracy: expected confidence with group='group', got None"):
        Accuracy(group='group')


def test_equal_scores_are_ranked_as_by_argmax_and_nan_is_wrong():
    equal = [dict(pred_score=torch.full((4,), 0.25), gt_label=torch.tensor([label])) for label in range(4)]
    assert score(Accuracy(topk=(1, 3)), equal) == {'accuracy/top1': 25, 'accuracy/top3': 75}
    diverged = [dict(pred_score=torch.full((4,), torch.nan), gt_label=torch.tensor([label])) for label in range(4)]
    assert score(Accuracy(topk=(1, 4), thrs=None), diverged) == {'accuracy/top1': 0, 'accuracy/top4': 0}


def test_labels_of_no_class_are_wrong():
    outside = [dict(pred_score=torch.tensor([0.1, 0.9]), gt_label=torch.tensor([label])) for label in (-1, 1, 2)]
    assert score(Accuracy(topk=(1, 2)), outside)['accuracy/top2'] == pytest.approx(100 / 3)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integers(dtype):
    metric = Accuracy(topk=(1, 2))
    for scores, label in (([0.7, 0.2, 0.1], 1), ([0.1, 0.2, 0.7], 2)):
        metric.process(None, [dict(pred_score=torch.tensor(scores), gt_label=torch.tensor([label], dtype=dtype))])
    assert metric.evaluate(size=2) == {'accuracy/top1': 50.0, 'accuracy/top2': 100.0}
