import pytest
import torch

from hybridcls.functional import combined_margin_on_target
from hybridcls.registry import MODELS


def test_switches_reach_the_formula():
    cosine = torch.tensor([-0.95, 0.3])
    for keys in [
        dict(),
        dict(m1=1.3),
        dict(m2=0.1),
        dict(m3=0.4),
        dict(m1=1.3, beyond_pi='clip'),
        dict(gradient='straight_through'),
    ]:
        own, expected = (cosine.clone().requires_grad_() for _ in range(2))
        out = MODELS.build(dict(type='CombinedMargin', **keys))(own, torch.ones(2), torch.zeros(2))
        reference = combined_margin_on_target(expected, **keys)
        torch.testing.assert_close(out, reference)
        torch.testing.assert_close(torch.autograd.grad(out.sum(), own), torch.autograd.grad(reference.sum(), expected))


def test_the_margin_to_set_is_the_angle():
    margin = MODELS.build(dict(type='CombinedMargin', m2=0.4, m3=0.0))
    assert margin.margin == 0.4
    margin.margin = 0.0
    assert margin(torch.tensor([0.5]), torch.ones(1), torch.zeros(1)).tolist() == [0.5]


@pytest.mark.parametrize(
    'keys', [dict(m1=0.0), dict(m2=28.6), dict(m3=-1), dict(beyond_pi='round'), dict(gradient='official')]
)
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=name):
        MODELS.build(dict(type='CombinedMargin', **keys))
