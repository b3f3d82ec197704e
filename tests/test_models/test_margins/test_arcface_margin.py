import pytest
import torch

from hybridcls.functional import angular_margin_on_target
from hybridcls.registry import MODELS


def test_switches_reach_the_formula():
    cosine = torch.tensor([-0.95, 0.3])
    for keys in [dict(), dict(margin=0.3), dict(beyond_pi='clip'), dict(gradient='straight_through')]:
        own, expected = (cosine.clone().requires_grad_() for _ in range(2))
        out = MODELS.build(dict(type='ArcFace', **keys))(own, torch.ones(2), torch.zeros(2))
        reference = angular_margin_on_target(expected, **keys)
        torch.testing.assert_close(out, reference)
        torch.testing.assert_close(torch.autograd.grad(out.sum(), own), torch.autograd.grad(reference.sum(), expected))


@pytest.mark.parametrize('keys', [dict(margin=28.6), dict(beyond_pi='round'), dict(gradient='official')])
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=name):
        MODELS.build(dict(type='ArcFace', **keys))
