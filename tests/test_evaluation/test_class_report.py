"""ClassReport: against scikit-learn and scipy, and at the edges."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from hybridcls.evaluation import ClassReport, MissingFieldError
from hybridcls.evaluation.class_report import Rows
from hybridcls.plain_numbers import plain_results


def evaluated(scores, labels, size=None, groups=None, names=None, **keys):
    metric = ClassReport(**keys)
    metric.dataset_meta = names and dict(classes=names)
    for place, (score, label) in enumerate(zip(scores, labels.tolist(), strict=True)):
        sample = dict(pred_score=score, gt_label=torch.tensor([label]))
        metric.process(None, [sample if groups is None else dict(sample, patient=groups[place])])
    return metric.evaluate(len(labels) if size is None else size)


def noisy(count=300, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    scores = torch.rand(count, classes, generator=generator, dtype=torch.float64)
    scores[torch.arange(count), labels] += 0.4
    return scores, labels


def test_scores_equal_scikit_learns():
    scores, labels = noisy()
    result = evaluated(scores, labels)
    expected = precision_recall_fscore_support(labels, scores.argmax(1))
    for name, values in zip(('precision', 'recall', 'f1'), expected[:3], strict=True):
        assert [row[f'{name}_percent'] for row in result['classes/table']] == pytest.approx(100 * values)
        assert result[f'classes/macro_{name}'] == pytest.approx(100 * values.mean())
    assert [row['images'] for row in result['classes/table']] == expected[3].tolist()


def test_intervals_are_the_exact_ones():
    scores, labels = noisy()
    predicted = scores.argmax(1)
    result = evaluated(scores, labels, confidence=0.9)
    row = result['classes/table'][2]
    hits = int(((labels == 2) & (predicted == 2)).sum())
    recall = stats.binomtest(hits, int((labels == 2).sum())).proportion_ci(0.9)
    assert row['recall_percent_low'] == pytest.approx(100 * recall.low)
    precision = stats.binomtest(hits, int((predicted == 2).sum())).proportion_ci(0.9)
    assert row['precision_percent_high'] == pytest.approx(100 * precision.high)
    jaccard = stats.binomtest(hits, int(((labels == 2) | (predicted == 2)).sum())).proportion_ci(0.9)
    assert row['f1_percent_low'] == pytest.approx(200 * jaccard.low / (1 + jaccard.low))
    assert row['f1_percent_low'] < row['f1_percent'] < row['f1_percent_high']


def test_macro_interval_is_that_of_scipys_bootstrap():
    scores, labels = noisy(120, 3)
    predicted = scores.argmax(1).numpy()
    result = evaluated(scores, labels)

    def macro_f1(true, guessed):
        return precision_recall_fscore_support(true, guessed, average='macro', zero_division=0)[2]

    expected = stats.bootstrap(
        (labels.numpy(), predicted),
        macro_f1,
        n_resamples=400,
        paired=True,
        vectorized=False,
        method='percentile',
        rng=0,
    ).confidence_interval
    assert result['classes/macro_f1_low'] == pytest.approx(100 * expected.low, abs=1.5)
    assert result['classes/macro_f1_high'] == pytest.approx(100 * expected.high, abs=1.5)


def test_groups_widen_the_intervals():
    scores, labels = noisy(80)
    times = 10
    alone = evaluated(scores, labels)['classes/table'][0]
    many = evaluated(scores.repeat(times, 1), labels.repeat(times))['classes/table'][0]
    grouped = evaluated(scores.repeat(times, 1), labels.repeat(times), groups=list(range(80)) * times, group='patient')[
        'classes/table'
    ][0]

    def width(row):
        return row['recall_percent_high'] - row['recall_percent_low']

    assert width(many) < 0.5 * width(grouped)
    assert width(grouped) == pytest.approx(width(alone), rel=0.35)
    with pytest.raises(MissingFieldError, match=r"^ClassReport: expected group='patient' in sample"):
        evaluated(scores, labels, group='patient')


def test_confusions_are_counted_and_named():
    scores = torch.eye(3)[[0, 1, 1, 1, 2, 0]]
    result = evaluated(scores, torch.tensor([0, 0, 0, 1, 1, 2]), names=['cat', 'dog', 'cow'], most=2)
    first, second = result['classes/confusions']
    assert (first['class'], first['predicted_as'], first['images']) == ('cat', 'dog', 2)
    assert first['percent'] == pytest.approx(200 / 3)
    assert first['percent_low'] == pytest.approx(100 * stats.binomtest(2, 3).proportion_ci().low)
    assert second['images'] == 1


def test_a_missing_class_has_no_recall_and_is_left_out_of_the_means():
    scores, labels = noisy(60, 3)
    result = evaluated(torch.cat([scores, torch.zeros(60, 1)], 1), labels)
    last = result['classes/table'][3]
    assert last['images'] == last['predictions'] == 0
    assert last['recall_percent'] is last['precision_percent_low'] is last['f1_percent_high'] is None
    assert last['insufficient_data'] == ['precision', 'recall', 'f1']
    assert result['classes/macro_f1'] == evaluated(scores, labels)['classes/macro_f1']


def test_single_image_all_wrong_and_all_equal():
    single = evaluated(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
    assert single['classes/macro_recall'] == 100
    assert 'classes/macro_recall_low' not in single  # one image says nothing
    assert single['classes/table'][1]['recall_percent_low'] == pytest.approx(2.5)
    assert single['classes/table'][1]['insufficient_data'] == ['precision', 'recall', 'f1']
    wrong = evaluated(torch.eye(2).repeat(10, 1), torch.tensor([1, 0]).repeat(10))
    assert wrong['classes/macro_f1'] == 0
    assert 'classes/macro_f1_high' not in wrong  # each resample is all wrong, which does not make it certain
    assert wrong['classes/table'][0]['recall_percent_high'] == pytest.approx(100 * (1 - 0.025**0.1))
    equal = evaluated(torch.full((20, 2), 0.5), torch.tensor([1, 0]).repeat(10))
    assert equal['classes/table'][0]['predictions'] == 20
    assert evaluated(torch.zeros(0, 2), torch.zeros(0)) == {}


def test_nan_scores_are_wrong_and_unknown_images_left_out():
    scores = torch.eye(2).repeat(4, 1)
    scores[0] = torch.nan
    result = evaluated(scores, torch.tensor([0, 1] * 3 + [-1, 2]))
    assert [row['images'] for row in result['classes/table']] == [3, 3]
    assert result['classes/table'][0]['recall_percent'] == pytest.approx(200 / 3)
    assert result['classes/confusions'][0]['predicted_as'] == '(no class: NaN)'


def test_thousand_classes_fit_json_and_a_short_table():
    scores, labels = noisy(2000, 1000)
    result = evaluated(scores, labels)
    plain = json.loads(json.dumps(plain_results(result, finite=True)))
    assert len(plain['classes/table']) == 1000
    assert math.isfinite(plain['classes/macro_f1_low'])
    assert str(result['classes/table']).count('\n') == 21
    assert str(Rows()) == '(no rows)'


def test_padded_images_are_dropped():
    scores, labels = noisy(50)
    padded = evaluated(torch.cat([scores, scores[:7]]), torch.cat([labels, labels[:7]]), size=50)
    assert padded == evaluated(scores, labels)
    assert np.isfinite(padded['classes/macro_f1'])


def test_a_mean_over_classes_of_one_image_has_no_interval():
    scores = torch.eye(40)[torch.arange(40).roll(1).where(torch.arange(40) < 9, torch.arange(40))]
    one = evaluated(scores, torch.arange(40))
    assert one['classes/macro_recall'] == pytest.approx(100 * 31 / 40)
    assert 'classes/macro_recall_low' not in one
    assert 'classes/macro_f1_high' not in one
    three = evaluated(scores.repeat(3, 1), torch.arange(40).repeat(3))  # 5 % of the classes are lacking
    assert three['classes/macro_recall_low'] < three['classes/macro_recall'] < three['classes/macro_recall_high']
