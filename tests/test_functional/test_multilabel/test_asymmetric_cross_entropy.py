"""The asymmetric loss, against the paper's formula in float64 and the binary cross entropy it contains."""

import mmpretrain.models.losses
import pytest
import torch
import torch.nn.functional as F

from hybridcls.functional.multilabel import asymmetric_loss


def plain(x, y, gamma_pos, gamma_neg, clip):
    """Eq. 7 for hard labels, number by number."""
    p = 1 / (1 + (-x).exp())
    rest = (p - clip).clamp(min=0)
    return torch.where(y == 1, -((1 - p) ** gamma_pos) * p.log(), -(rest**gamma_neg) * (1 - rest).log())


def values():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20, 6, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(20, 6, generator=generator) < 0.3).double()


@pytest.mark.parametrize(('gamma_pos', 'gamma_neg', 'clip'), [(0, 4, 0.05), (1, 4, 0.2), (2, 2, 0), (0.5, 0.5, 0.1)])
def test_the_papers_formula(gamma_pos, gamma_neg, clip):
    logits, targets = values()
    found = asymmetric_loss(logits, targets, gamma_pos, gamma_neg, clip)
    torch.testing.assert_close(found, plain(logits, targets, gamma_pos, gamma_neg, clip))
    theirs = mmpretrain.models.losses.AsymmetricLoss(gamma_pos, gamma_neg, clip, reduction='none')
    torch.testing.assert_close(found, theirs(logits, targets))
    assert torch.autograd.gradcheck(
        lambda x: asymmetric_loss(x, targets, gamma_pos, gamma_neg, clip), logits.clone().requires_grad_()
    )


def test_without_focus_it_is_binary_cross_entropy_with_soft_labels_too():
    logits, _ = values()
    targets, weight = torch.rand_like(logits), torch.rand(6, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction='none')
    torch.testing.assert_close(asymmetric_loss(logits, targets, 0, 0, 0, weight), expected)


def test_a_positive_that_is_far_off_has_a_gradient():
    logits = torch.tensor([[-100.0, 100.0]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[1.0, 0.0]]), 0.5, 0.5, 0.05)
    loss.sum().backward()
    assert loss[0, 0].item() == pytest.approx(100)
    assert logits.grad[0, 0].item() == pytest.approx(-1)
    assert logits.grad.isfinite().all()


def test_the_focus_without_gradient_scales_that_of_the_cross_entropy():
    """With disable_torch_grad_focal_loss the gradient of a negative is its weight times that of -log(1 - p)."""
    logits = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    asymmetric_loss(logits, torch.zeros(1, 1), 0, 3, 0, focal_gradient=False).backward()
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, p**3 * p)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_compute_in_float32(dtype):
    logits = torch.tensor([[-30.0, 30.0]], dtype=dtype)
    with torch.autocast('cpu', dtype):
        loss = asymmetric_loss(logits, torch.tensor([[1.0, 0.0]]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, asymmetric_loss(logits.float(), torch.tensor([[1.0, 0.0]])), rtol=1e-6, atol=0)
