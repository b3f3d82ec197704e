import math

import pytest
import torch

from hybridcls.functional import EVIDENCE_KINDS, evidence_from_logits


def test_kinds_by_hand():
    logits = [-30.0, -1.0, 0.0, 2.0, 9.0, 150.0]
    by_hand = {
        'exp': [math.exp(-10), math.exp(-1), 1.0, math.exp(2), math.exp(9), math.exp(10)],
        'softplus': [math.exp(-30), math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(2)), 9.000123402, 150.0],
        'relu': [0.0, 0.0, 0.0, 2.0, 9.0, 150.0],
        'exp_over_10': [math.exp(-3), math.exp(-0.1), 1.0, math.exp(0.2), math.exp(0.9), math.exp(10)],
    }
    assert set(by_hand) == set(EVIDENCE_KINDS)
    for kind, expected in by_hand.items():
        torch.testing.assert_close(evidence_from_logits(torch.tensor(logits), kind), torch.tensor(expected))


@pytest.mark.parametrize('kind', EVIDENCE_KINDS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(kind, dtype):
    logits = torch.tensor([12.0, -12.0, 1000.0], dtype=dtype, requires_grad=True)
    with torch.autocast('cpu', dtype):
        evidence = evidence_from_logits(logits, kind)
    assert evidence.dtype == torch.float32
    assert evidence.isfinite().all()
    assert (evidence >= 0).all()
    evidence.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('kind', EVIDENCE_KINDS)
def test_gradients(kind):
    logits = torch.tensor([-3.0, -0.4, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: evidence_from_logits(z, kind), logits)


def test_what_is_not_a_number_stays_visible():
    for kind in EVIDENCE_KINDS:
        assert evidence_from_logits(torch.tensor([math.nan]), kind).isnan().all()


def test_wrong_settings_are_answered():
    with pytest.raises(ValueError, match=r"expected kind to be one of .*, got 'exponential'"):
        evidence_from_logits(torch.zeros(1), 'exponential')
    with pytest.raises(ValueError, match=r'expected clamp in \(0, inf\), got 0'):
        evidence_from_logits(torch.zeros(1), clamp=0)
