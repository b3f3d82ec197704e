"""Vector scaling is scipy's minimum of the same cross entropy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from hybridcls.functional.calibration import fit_temperature, fit_vector


@pytest.mark.parametrize('scale', [1.0, 64.0])
def test_it_is_the_minimum_that_scipy_finds(scale):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (600, 4))
    truth = logits * [0.5, 1.0, 1.5, 0.8] + [0.3, -0.4, 0.0, 0.1]
    labels = np.array([rng.choice(4, p=row) for row in np.exp(log_softmax(truth, 1))])

    def loss(numbers):
        return -log_softmax(logits * numbers[:4] + numbers[4:], 1)[np.arange(600), labels].mean()

    expected = minimize(loss, np.r_[np.ones(4), np.zeros(4)], method='BFGS', options=dict(gtol=1e-8))
    weight, bias = fit_vector(torch.from_numpy(scale * logits), torch.from_numpy(labels))
    np.testing.assert_allclose(weight.numpy() * scale, expected.x[:4], atol=1e-4)
    np.testing.assert_allclose(bias.numpy(), expected.x[4:] - expected.x[4:].mean(), atol=1e-4)
    # It is no worse than torch-uncertainty's, which has no bias, nor than one temperature.
    without = minimize(lambda weights: loss(np.r_[weights, np.zeros(4)]), np.ones(4), method='BFGS').fun
    temperature = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    own = loss(np.r_[weight.numpy() * scale, bias.numpy()])
    assert own < without < loss(np.r_[np.full(4, 1 / temperature), np.zeros(4)])
