"""Numbers of several labels an image, against scikit-learn, and their intervals by hand-drawn resamples."""

import numpy as np
import pytest
import torch
from answered_images import answered_labels
from sklearn.metrics import average_precision_score, f1_score

from hybridcls.apis.report.multi_label_numbers import multi_label_numbers, weighted_average_precisions
from hybridcls.evaluation import AveragePrecision

CLASSES = ['a', 'b', 'c', 'never']


@pytest.fixture(scope='module')
def images():
    return answered_labels(60)


def test_numbers_are_those_of_scikit_learn(images):
    rows, table = multi_label_numbers(images, CLASSES, [0.5] * 4)
    values = {row['key']: row for row in rows}
    each = [100 * average_precision_score(images.truths[:, k], images.scores[:, k]) for k in range(3)]
    assert values['multi-label/mAP']['value'] == pytest.approx(np.mean(each))
    f1 = 100 * f1_score(images.truths, images.answers, average=None, zero_division=0)
    assert [row['f1_percent'] or 0.0 for row in table] == pytest.approx(list(f1))
    assert values['multi-label/f1']['value'] == pytest.approx(f1.mean())
    micro = values['multi-label/micro_f1']
    assert micro['value'] == pytest.approx(100 * f1_score(images.truths, images.answers, average='micro'))
    assert micro['low'] < micro['value'] < micro['high']
    assert values['multi-label/exact']['value'] == pytest.approx(100 * (images.truths == images.answers).all(1).mean())


def test_average_precision_of_resamples_is_that_of_scikit_learn(images):
    weights = np.random.default_rng(1).multinomial(60, [1 / 60] * 60, size=5)
    scores = images.scores.round(2)  # many are equal
    found = weighted_average_precisions(
        torch.from_numpy(scores), torch.from_numpy(images.truths), torch.from_numpy(weights).double()
    )
    for weight, row in zip(weights, found.tolist(), strict=True):
        for number in range(3):
            expected = average_precision_score(images.truths[:, number], scores[:, number], sample_weight=weight)
            assert row[number] == pytest.approx(expected, abs=1e-12)
    assert found[:, 3].isnan().all()


@pytest.mark.parametrize('kind', ['ties', 'equal', 'all wrong', 'nan', 'single'])
def test_the_number_and_its_interval_count_alike(images, kind):
    truths = images.truths[:1] | True if kind == 'single' else images.truths
    scores = {
        'ties': images.scores.round(1),
        'equal': np.full_like(images.scores, 0.5),
        'all wrong': 1.0 - truths,
        'nan': np.where(images.scores > 0.6, np.nan, images.scores),
        'single': images.scores[:1],
    }[kind]
    metric = AveragePrecision(average=None)
    metric.process(None, [
        dict(pred_score=torch.from_numpy(score), gt_score=torch.from_numpy(truth).long())
        for score, truth in zip(scores, truths, strict=True)
    ])  # fmt: skip
    printed = metric.evaluate(size=len(scores))['multi-label/AP_classwise']
    drawn_once = torch.ones(1, len(scores), dtype=torch.float64)
    inside = 100 * weighted_average_precisions(torch.from_numpy(scores), torch.from_numpy(truths), drawn_once)[0]
    for number in range(3):
        expected = 100 * average_precision_score(truths[:, number], np.nan_to_num(scores[:, number]))
        assert printed[number] == pytest.approx(expected, abs=1e-9)
        assert inside[number].item() == pytest.approx(expected, abs=1e-9)


def test_intervals_are_those_of_resampled_images(images):
    rows, table = multi_label_numbers(images, CLASSES, [0.5] * 4)
    rng = np.random.default_rng(2)
    drawn = [[], [], []]
    for _ in range(600):
        kept = rng.integers(0, 60, 60)
        truths, answers, scores = images.truths[kept], images.answers[kept], images.scores[kept]
        drawn[0].append(100 * average_precision_score(truths[:, 0], scores[:, 0]))
        drawn[1].append(100 * f1_score(truths[:, 1], answers[:, 1]))
        drawn[2].append(100 * f1_score(truths, answers, average='macro', zero_division=0))
    keys = ((table[0], 'average_precision_percent_'), (table[1], 'f1_percent_'), (rows[1], ''))
    for (row, prefix), values in zip(keys, drawn, strict=True):
        ends = [row[f'{prefix}low'], row[f'{prefix}high']]
        assert ends == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=2.5), prefix
    # Of the third class too few images have the label; the fourth no image has.
    assert [row['insufficient_data'] for row in table] == [False, False, True, True]
    assert table[2]['average_precision_percent_low'] is None is table[3]['f1_percent_low']
    assert table[2]['recall_percent_low'] < table[2]['recall_percent']
