"""Lion from a config, against Algorithm 2 of the paper in plain floats."""

import math

import pytest
import torch

from hybridcls.registry import OPTIM_WRAPPERS, OPTIMIZERS


def by_the_paper(weight, gradients, lr, beta1, beta2, decay):
    momentum = 0.0
    for gradient in gradients:
        update = math.copysign(1.0, beta1 * momentum + (1 - beta1) * gradient)
        weight -= lr * (update + decay * weight)
        momentum = beta2 * momentum + (1 - beta2) * gradient
    return weight


@pytest.mark.parametrize('gradients', [[0.5, -0.1, -3.0, 0.2], [1.0, -9.0, 1.0]])
def test_the_papers_algorithm(gradients):
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    lion = OPTIMIZERS.build(dict(type='Lion', params=[parameter], lr=0.1, betas=(0.8, 0.95), weight_decay=0.3))
    wrapper = OPTIM_WRAPPERS.build(dict(type='ComposedOptimWrapper', optimizer=lion))
    for gradient in gradients:
        wrapper.update_params((parameter * gradient).sum())
    assert parameter.item() == pytest.approx(by_the_paper(2.0, gradients, 0.1, 0.8, 0.95, 0.3), rel=1e-12)
