import math

import pytest
import torch
import torch.nn.functional as F

from hybridcls.functional.contrastive.dense_supcon import dense_supcon


def waves(*shape):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i) + 0.5 * torch.cos(0.37 * i * i)).reshape(shape)


def test_anchors_come_one_by_one():
    z = F.normalize(waves(3, 5), dim=1)
    losses = dense_supcon(z, z, torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0]), torch.arange(3), 0.5)
    similarity = (z @ z.t() / 0.5).exp()
    torch.testing.assert_close(losses[0], -(similarity[0, 2] / (similarity[0, 1] + similarity[0, 2])).log())
    assert losses[1] == 0


@pytest.mark.parametrize('form', ['out', 'in'])
def test_it_can_be_differentiated_twice(form):
    z = F.normalize(waves(4, 3), dim=1).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1])
    assert torch.autograd.gradgradcheck(lambda z: dense_supcon(z, z, labels, labels, torch.arange(4), 0.5, form), (z,))
