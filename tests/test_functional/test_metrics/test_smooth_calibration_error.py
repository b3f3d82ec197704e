"""smECE, against its definition: a sum of reflected Gaussians, integrated and solved for the bandwidth."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from hybridcls.functional.metrics import smooth_calibration_error


def by_definition(confidence, right, bandwidth):
    points = (np.arange(4000) + 0.5) / 4000
    total = np.zeros(4000)
    for place, residual in zip(confidence, right - confidence, strict=True):
        for turn in range(-6, 7):  # images of the place in the mirrors at 0 and 1
            total += residual * (
                norm.pdf(points, 2 * turn + place, bandwidth) + norm.pdf(points, 2 * turn - place, bandwidth)
            )
    return np.abs(total / len(confidence)).mean()


def solved(confidence, right):
    return brentq(lambda width: by_definition(confidence, right, width) - width, 1e-3, 1, xtol=1e-6)


@pytest.mark.parametrize(('count', 'power'), [(40, 0.5), (40, 3), (25, 1)])
def test_equals_the_definition(count, power):
    random = np.random.default_rng(0)
    confidence = random.random(count)
    right = (random.random(count) < confidence**power).astype(float)
    value = smooth_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right))
    assert value.item() == pytest.approx(solved(confidence, right), abs=2e-4)


def test_edges():
    ones, zeros = torch.ones(10), torch.zeros(10)
    assert smooth_calibration_error(ones, ones).item() == 0
    assert smooth_calibration_error(ones, zeros).item() == pytest.approx(1)  # all wrong, and certain
    assert smooth_calibration_error(torch.tensor([0.5]), torch.tensor([1.0])).item() == pytest.approx(0.5, abs=1e-3)


def test_a_calibrated_set_is_near_zero_and_a_shift_is_found():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(4000, generator=generator)
    draws = torch.rand(4000, generator=generator)
    assert smooth_calibration_error(confidence, draws < confidence).item() < 0.04
    assert smooth_calibration_error(confidence, draws < confidence - 0.2).item() == pytest.approx(0.18, abs=0.02)
