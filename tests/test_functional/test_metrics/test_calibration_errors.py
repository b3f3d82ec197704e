"""Calibration errors in bins, against torchmetrics, scikit-learn and plain loops."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

from hybridcls.functional.metrics import (
    classwise_calibration_error,
    equal_mass_calibration_error,
    equal_width_gaps,
    smooth_calibration_error,
)


def claims(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.rand(count, generator=generator, dtype=torch.float64)
    return confidence, torch.rand(count, generator=generator) < confidence.sqrt()


@pytest.mark.parametrize('bins', [1, 10, 15])
def test_equal_width_equals_torchmetrics(bins):
    confidence, right = claims()
    confidence[:9] = 1.0
    gaps, shares = equal_width_gaps(confidence, right, bins)
    for value, norm in (((gaps * shares).sum(), 'l1'), (gaps.max(), 'max')):
        expected = binary_calibration_error(confidence, right.int(), n_bins=bins, norm=norm)
        assert value.item() == pytest.approx(expected.item(), abs=1e-12)


def test_weights_are_repetitions():
    confidence, right = claims(50)
    times = torch.randint(3, (4, 50), generator=torch.Generator().manual_seed(0))
    gaps, shares = equal_width_gaps(confidence, right, 7, times)
    for row, one in enumerate(times):
        alone = equal_width_gaps(confidence.repeat_interleave(one), right.repeat_interleave(one), 7)
        torch.testing.assert_close((gaps[row], shares[row]), alone)


def test_so_they_are_of_the_classwise_and_the_smooth_error():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(60, 4, generator=generator).softmax(1)
    labels = torch.randint(4, (60,), generator=generator)
    confidence, predicted = scores.max(1)
    times = torch.randint(3, (4, 60), generator=generator)
    classwise = classwise_calibration_error(scores, labels, 7, times)
    smooth = smooth_calibration_error(confidence, predicted == labels, times)
    for row, one in enumerate(times):
        drawn = torch.arange(60).repeat_interleave(one)
        assert classwise[row].item() == pytest.approx(
            classwise_calibration_error(scores[drawn], labels[drawn], 7).item()
        )
        alone = smooth_calibration_error(confidence[drawn], (predicted == labels)[drawn]).item()
        assert smooth[row].item() == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize('bins', [5, 10])
def test_equal_mass_equals_scikit_learns_quantile_bins(bins):
    confidence, right = claims()
    true, claimed = calibration_curve(right.numpy(), confidence.numpy(), n_bins=bins, strategy='quantile')
    expected = np.abs(true - claimed).mean()  # each bin has as many images
    assert equal_mass_calibration_error(confidence, right, bins).item() == pytest.approx(expected, abs=1e-12)
    assert expected > 0.05


def test_equal_mass_does_not_depend_on_the_order_of_ties():
    confidence = torch.full((60,), 0.7).where(torch.arange(60) % 2 == 0, 0.9)
    right = torch.arange(60) < 33
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    expected = equal_mass_calibration_error(confidence, right, 7)
    torch.testing.assert_close(equal_mass_calibration_error(confidence[order], right[order], 7), expected)
    assert (
        equal_mass_calibration_error(torch.tensor([0.75]), torch.tensor([1])).item() == 0.25
    )  # fewer images than bins


def test_classwise_is_the_mean_of_each_class_against_the_others():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5000, 4, generator=generator, dtype=torch.float64).softmax(1)  # more than one block
    labels = torch.randint(4, (5000,), generator=generator)
    expected = [
        binary_calibration_error(scores[:, number], (labels == number).int(), n_bins=15, norm='l1').item()
        for number in range(4)
    ]
    assert classwise_calibration_error(scores, labels).item() == pytest.approx(np.mean(expected), abs=1e-12)
    right = torch.eye(3, dtype=torch.float64)
    assert classwise_calibration_error(right, torch.arange(3)).item() == 0
    assert classwise_calibration_error(right, torch.tensor([1, 2, 0])).item() == pytest.approx(2 / 3)
