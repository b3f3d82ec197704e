import math

import numpy as np
import pytest
import torch

from hybridcls.apis.fidelity import fixed_inputs as inputs


def test_waves_are_the_formula():
    found = inputs.waves(2, 3, start=5, phase=0.2)
    expected = [math.sin(1.7 * i + 0.2) + 0.5 * math.cos(0.37 * i * i + 0.2) for i in range(5, 11)]
    assert found.ravel().tolist() == pytest.approx(expected, abs=1e-12)


def test_probabilities_and_batches():
    scores, labels = inputs.probabilities(20, 4)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert 0.3 < (scores.argmax(1) == labels).mean() < 1
    norms = np.linalg.norm(np.stack(inputs.adaface_batches()[:3]), axis=2)
    assert norms.min() < 1e-3 < 100 < norms.max()  # beyond AdaFace's clip


def test_parameters_are_in_the_precision_of_the_model():
    model = inputs.set_parameters(inputs.SmallNet().double(), 0.5)
    assert model.conv.bias.tolist() == (0.5 * inputs.waves(3, start=10)).tolist()
    loss = inputs.Dimensions().linear_loss(0)
    loss.backward()
    assert loss.dtype == torch.float32
