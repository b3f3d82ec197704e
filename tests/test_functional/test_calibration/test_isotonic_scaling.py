"""Isotonic scaling is the projection onto rising functions, one class against the rest."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from hybridcls.functional.calibration import apply_isotonic, fit_isotonic


@pytest.fixture(scope='module')
def drawn():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([0.5, 0.5, 0.5], 300)
    labels = np.array([rng.choice(3, p=row) for row in scores**0.5 / (scores**0.5).sum(1, keepdims=True)])
    return torch.from_numpy(scores), torch.from_numpy(labels)


def test_it_is_what_torch_uncertainty_computes(drawn):
    """Its formula: a regression a class, clipped outside, divided by the sum."""
    scores, labels = drawn
    new = torch.from_numpy(np.random.default_rng(1).dirichlet([0.4, 0.4, 0.4], 200))
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds='clip')
        .fit(scores[:, number].numpy(), labels.numpy() == number)
        .predict(new[:, number].numpy())
        for number in range(3)
    ]
    expected = np.stack(columns, 1)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(apply_isotonic(new, fit_isotonic(scores, labels), 0).numpy(), expected, atol=1e-12)


def test_it_is_the_least_squares_fit_of_a_rising_function():
    x = torch.tensor([0.1, 0.2, 0.4, 0.7, 0.8, 0.9]).double()
    labels = torch.tensor([1, 0, 1, 0, 1, 0])  # of class 0: 0 1 0 1 0 1
    truth = (labels == 0).numpy().astype(float)
    where, values = fit_isotonic(torch.stack([x, 1 - x], 1), labels)[0]
    rising = [dict(type='ineq', fun=lambda y, i=i: y[i + 1] - y[i]) for i in range(5)]
    expected = minimize(lambda y: ((y - truth) ** 2).sum(), np.linspace(0, 1, 6), constraints=rising).x
    np.testing.assert_allclose(np.interp(x.numpy(), where, values), expected, atol=1e-4)


def test_a_share_of_the_model_keeps_order_and_leaves_no_zero():
    functions = [([0.0, 1.0], [0.0, 0.0]), ([0.4, 0.5, 1.0], [0.0, 0.5, 0.5]), ([0.0, 1.0], [0.0, 0.0])]
    scores = torch.tensor([[0.3, 0.3, 0.4], [0.2, 0.7, 0.1], [0.4, 0.6, 0.0]]).double()
    got = apply_isotonic(scores, functions, 0.01)
    np.testing.assert_allclose(got.sum(1).numpy(), 1)
    np.testing.assert_allclose(got[0].numpy(), scores[0].numpy())  # a row of zeros is the model's
    np.testing.assert_allclose(got[1].numpy(), [0.002, 0.997, 0.001], atol=1e-12)
    assert got[1, 1] > got[2, 1]  # of one step
