"""The temperature is scipy's minimum of the cross entropy, of logits of any size."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from hybridcls.functional.calibration import fit_temperature


def drawn(scale, sharpness, classes=6, count=400, seed=0):
    """Logits ``scale`` times those that are right, and labels that follow the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (count, classes))
    probabilities = np.exp(log_softmax(logits, 1))
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    return torch.from_numpy(scale * logits), torch.from_numpy(labels)


def best_of_scipy(logits, labels):
    def loss(log_temperature):
        return -log_softmax(logits.numpy() / np.exp(log_temperature), 1)[np.arange(len(labels)), labels.numpy()].mean()

    return np.exp(minimize_scalar(loss, bounds=(-8, 8), method='bounded', options=dict(xatol=1e-9)).x)


@pytest.mark.parametrize('scale', [0.02, 1.0, 3.0, 64.0])
@pytest.mark.parametrize('sharpness', [0.5, 3.0])
def test_it_is_the_minimum_that_scipy_finds(scale, sharpness):
    logits, labels = drawn(scale, sharpness)
    got = fit_temperature(logits, labels)
    assert got == pytest.approx(best_of_scipy(logits, labels), rel=1e-5)
    assert fit_temperature(logits.float(), labels) == pytest.approx(got, rel=1e-5)


def test_it_finds_the_temperature_that_labels_were_drawn_with():
    logits, labels = drawn(2.5, 2.0, count=20000)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_it_is_the_one_of_torch_uncertainty():
    """Its formula: ``inv_temp * logits``, cross entropy, LBFGS with lr 0.1."""
    logits, labels = drawn(2.0, 2.0)
    inverse = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], lr=0.1, max_iter=500, tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inverse * logits, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, labels) == pytest.approx(1 / inverse.item(), rel=1e-4)


def test_what_has_no_minimum_is_a_sentence():
    logits = torch.eye(3)[[0, 1, 2, 0]]
    with pytest.raises(ValueError, match=r'expected some images that are answered wrongly, got 4 right ones.*none'):
        fit_temperature(logits, torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ValueError, match='no better than chance on these 4 images'):
        fit_temperature(logits, torch.tensor([1, 2, 0, 1]))
