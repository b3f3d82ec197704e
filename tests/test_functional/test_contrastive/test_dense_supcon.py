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


def test_references_without_the_anchors():
    z, references = F.normalize(waves(2, 5), dim=1), F.normalize(waves(4, 5) ** 2 - 1, dim=1)
    losses = dense_supcon(z, references, torch.tensor([0, 1]), torch.tensor([0, 0, 2, 2]), None, 0.5)
    similarity = (z @ references.t() / 0.5).exp()
    shares = similarity[0] / similarity[0].sum()
    torch.testing.assert_close(losses[0], -(shares[0].log() + shares[1].log()) / 2)
    assert losses[1] == 0


@pytest.mark.parametrize('form', ['out', 'in'])
def test_an_anchor_without_positives_costs_nothing_and_pulls_nothing(form):
    z = F.normalize(waves(3, 5), dim=1).requires_grad_()
    losses = dense_supcon(z, z, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), torch.arange(3), 0.5, form)
    assert losses.tolist() == [0, 0, 0]
    losses.sum().backward()
    assert z.grad.abs().max() == 0


@pytest.mark.parametrize('form', ['out', 'in'])
def test_weights_of_positives_make_weighted_means(form):
    z = F.normalize(waves(3, 5), dim=1)
    mask = torch.tensor([[7.0, 1.0, 3.0]]).double()  # the first is the anchor itself
    loss = dense_supcon(z[:1], z, None, None, torch.tensor([0]), 0.5, form, mask)
    shares = (z[0] @ z[1:].t() / 0.5).softmax(0)
    weights = torch.tensor([0.25, 0.75]).double()
    expected = -(weights * shares.log()).sum() if form == 'out' else -(weights * shares).sum().log()
    torch.testing.assert_close(loss[0], expected)


@pytest.mark.parametrize('form', ['out', 'in'])
def test_it_can_be_differentiated_twice(form):
    z = F.normalize(waves(4, 3), dim=1).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1])
    assert torch.autograd.gradgradcheck(lambda z: dense_supcon(z, z, labels, labels, torch.arange(4), 0.5, form), (z,))
