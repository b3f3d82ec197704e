"""Calibration of predictions, against torchmetrics and cases solved by hand."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from hybridcls.evaluation import CalibrationMetric
from hybridcls.functional.metrics import (
    classwise_calibration_error,
    equal_mass_calibration_error,
    smooth_calibration_error,
)


def predictions(count=300):
    generator = torch.Generator().manual_seed(0)
    scores = (2 * torch.randn(count, 4, generator=generator)).softmax(1)
    labels = torch.multinomial(scores.sqrt(), 1, generator=generator).squeeze(1)  # overconfident
    return scores, labels


def evaluated(scores, labels, **keys):
    metric = CalibrationMetric(**keys)
    metric.process(
        None, [dict(pred_score=score, gt_label=label.view(1)) for score, label in zip(scores, labels, strict=True)]
    )
    return metric.evaluate(len(labels))


@pytest.mark.parametrize('bins', [1, 10, 15])
def test_calibration_error_equals_torchmetrics(bins):
    scores, labels = predictions()
    result = evaluated(scores, labels, bins=bins)
    for name, norm in (('ece', 'l1'), ('mce', 'max')):
        expected = multiclass_calibration_error(scores, labels, num_classes=4, n_bins=bins, norm=norm)
        assert result[f'calibration/{name}'] == pytest.approx(100 * expected.item(), abs=1e-4)
    assert result['calibration/ece'] > 5


def test_brier_and_nll_equal_scikit_learn():
    scores, labels = predictions()
    result = evaluated(scores, labels)
    assert result['calibration/nll'] == pytest.approx(log_loss(labels, scores.double()), rel=1e-6)
    assert result['calibration/brier'] == pytest.approx(
        (scores - torch.eye(4)[labels]).square().sum(1).mean().item(), rel=1e-5
    )
    two = torch.stack([scores[:, 0], 1 - scores[:, 0]], 1)
    sklearns = brier_score_loss(labels != 0, two[:, 1])
    assert evaluated(two, (labels != 0).long())['calibration/brier'] == pytest.approx(2 * sklearns, rel=1e-5)


def test_unknown_images_are_left_out():
    scores, labels = predictions(50)
    expected = evaluated(scores, labels)
    more = torch.cat([scores, scores[:9]]), torch.cat([labels, torch.tensor([-1, 4, 9] * 3)])
    assert evaluated(*more) == pytest.approx(expected)
    assert evaluated(scores[:2], torch.tensor([-1, -1])) == {}


def test_certainty_right_and_wrong():
    right = evaluated(torch.eye(3), torch.tensor([0, 1, 2]))
    assert right == {'calibration/ece': 0.0, 'calibration/mce': 0.0, 'calibration/brier': 0.0, 'calibration/nll': 0.0}
    wrong = evaluated(torch.eye(2), torch.tensor([1, 0]))
    assert wrong['calibration/ece'] == 100
    assert wrong['calibration/brier'] == 2
    assert wrong['calibration/nll'] == pytest.approx(103.3, abs=0.1)


def test_padded_samples_are_dropped():
    scores, labels = predictions(20)
    metric = CalibrationMetric()
    metric.process(None, [dict(pred_score=scores[i % 20], gt_label=labels[i % 20].view(1)) for i in range(24)])
    assert metric.evaluate(20) == pytest.approx(evaluated(scores, labels))


def test_invalid_probabilities_are_errors():
    for scores in (torch.tensor([[3.0, 1.0]]), torch.tensor([[1.2, -0.2]]), torch.tensor([[torch.inf, 1.0]])):
        with pytest.raises(ValueError, match='expected probabilities in pred_score, got a sum of'):
            evaluated(scores, torch.tensor([0]))
    with pytest.raises(ValueError, match=r'CalibrationMetric: expected bins in .* got 0'):
        CalibrationMetric(bins=0)


def test_nan_has_no_result_and_stops_no_other_metric():
    metric = CalibrationMetric(errors=['equal_width', 'classwise'])
    scores, labels = torch.tensor([[0.5, 0.5], [torch.nan, 1.0], [torch.nan, 1.0]]), torch.tensor([0, 1, -1])
    samples = [dict(pred_score=score, gt_label=label.view(1)) for score, label in zip(scores, labels, strict=True)]
    metric.process(None, samples)
    assert metric.evaluate(3) == {}
    assert metric.no_result == '1 of 2 images has a score that is NaN: no probability.'


@pytest.mark.parametrize(
    ('dtype', 'of_zero'), [(torch.float64, 744.440), (torch.float32, 103.279), (torch.float16, 16.636)]
)
def test_smallest_probability_depends_on_the_dtype(dtype, of_zero):
    """-log of the smallest numbers above 0 of IEEE 754: 2^-1074, 2^-149, 2^-24."""
    assert evaluated(torch.eye(2, dtype=dtype), torch.tensor([1, 0]))['calibration/nll'] == pytest.approx(
        of_zero, abs=1e-3
    )


def test_confident_scores_in_float64_keep_their_likelihood():
    confident = torch.tensor([[-50.0, 50.0]], dtype=torch.float64).softmax(1)
    assert evaluated(confident, torch.tensor([0]))['calibration/nll'] == pytest.approx(100.0, abs=1e-9)
    five_of_six = evaluated(confident.expand(6, 2), torch.tensor([1, 1, 1, 1, 1, 0]))
    assert five_of_six['calibration/nll'] == pytest.approx(100 / 6, abs=1e-9)


def test_float32_scores_keep_what_they_can_carry():
    """exp(-100) is a subnormal float32 of five bits; the likelihood is right to their rounding, 1 in 54."""
    confident = torch.tensor([[-50.0, 50.0]]).softmax(1)
    assert confident.dtype == torch.float32
    assert evaluated(confident, torch.tensor([0]))['calibration/nll'] == pytest.approx(100.0, abs=0.02)


def test_a_small_brier_score_keeps_its_digits():
    """2 d^2 for d = 1e-9, which is nothing beside 1 in float64."""
    scores = torch.tensor([[1 - 1e-9, 1e-9]], dtype=torch.float64)
    assert evaluated(scores, torch.tensor([0]))['calibration/brier'] == pytest.approx(2e-18, rel=1e-6)
    assert scores[0, 0] == 1 - 1e-9  # what others read is left alone


def test_other_calibration_errors_are_those_of_the_functions():
    scores, labels = predictions()
    result = evaluated(scores, labels, errors=['equal_mass', 'smooth', 'classwise'], bins=10)
    confidence, predicted = scores.double().max(1)
    right = predicted == labels
    assert set(result) == {
        f'calibration/{name}' for name in ('ece_equal_mass', 'ece_smooth', 'ece_classwise', 'brier', 'nll')
    }
    expected = equal_mass_calibration_error(confidence, right, 10)
    assert result['calibration/ece_equal_mass'] == pytest.approx(100 * expected.item())
    assert result['calibration/ece_smooth'] == pytest.approx(100 * smooth_calibration_error(confidence, right).item())
    expected = classwise_calibration_error(scores, labels, 10)
    assert result['calibration/ece_classwise'] == pytest.approx(100 * expected.item())
    metric = CalibrationMetric(errors=['smooth'])
    assert metric.directions == {'brier': 'less', 'nll': 'less', 'ece_smooth': 'less'}
    with pytest.raises(ValueError, match=r"^CalibrationMetric: expected errors to be one of .* got 'smoth'. Did you"):
        CalibrationMetric(errors='smoth')


def test_intervals_by_bootstrap():
    scores, labels = predictions(100)
    result = evaluated(scores, labels, confidence=0.9)
    losses = -scores.double()[torch.arange(100), labels].log()
    expected = stats.bootstrap([losses.numpy()], np.mean, confidence_level=0.9, method='percentile', rng=0)
    assert result['calibration/nll_low'] == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert result['calibration/nll_high'] == pytest.approx(expected.confidence_interval.high, abs=0.02)
    assert result['calibration/ece_low'] < result['calibration/ece_high']
    errors = ['equal_mass', 'smooth', 'classwise']
    result = evaluated(scores, labels, confidence=0.9, errors=errors)
    assert all(0 < result[f'calibration/ece_{one}_low'] < result[f'calibration/ece_{one}_high'] for one in errors)
    few = evaluated(scores[:4], labels[:4], confidence=0.9)
    assert 'calibration/nll' in few
    assert 'calibration/nll_low' not in few
    metric = CalibrationMetric(confidence=0.9)
    metric.bounds.of_images(metric, dict(nll=torch.tensor([torch.inf, *range(9)])), [None] * 10)
    assert metric.no_result == 'There is no interval because 1 of 10 images has no finite value.'


def test_thousand_classes_and_a_single_image():
    scores = torch.full((1, 1000), 0.001)
    result = evaluated(scores, torch.tensor([999]), errors=['equal_width', 'equal_mass', 'smooth', 'classwise'])
    assert result['calibration/nll'] == pytest.approx(6.9078, abs=1e-3)
    assert result['calibration/ece'] == pytest.approx(0.1)  # wrong, and 0.1 % sure
    assert result['calibration/ece_classwise'] == pytest.approx(100 * (999 * 0.001 + 0.999) / 1000)


def test_bfloat16_sums_to_1_as_far_as_it_can():
    scores = torch.tensor([[0.67, 0.33], [0.33, 0.67]]).bfloat16()
    assert abs(scores.double().sum(1) - 1).max() > 1e-3
    assert evaluated(scores, torch.tensor([0, 1]))['calibration/brier'] == pytest.approx(2 * 0.33**2, abs=2e-3)
    with pytest.raises(ValueError, match='expected probabilities'):
        evaluated(scores * 1.02, torch.tensor([0, 1]))
