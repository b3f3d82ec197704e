import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, contrastive_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in contrastive_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


def test_equation_2_in_place_of_3_is_noticed(monkeypatch):
    made = contrastive_cases.MODELS.build
    monkeypatch.setattr(contrastive_cases.MODELS, 'build', lambda cfg: made({**cfg, 'form': 'out'}))
    assert farthest(contrastive_cases._inside_losses(True)(DOUBLE), 'SupConLoss, form in') > 1e-2


@pytest.mark.parametrize('keys', [dict(anchor_mean='with_positives'), dict(base_temperature=None), dict(form='in')])
def test_the_form_of_the_equation_is_noticed(keys, monkeypatch):
    """What the code and the equation differ in: each default of ours is farther off than allowed."""
    made = contrastive_cases.MODELS.build
    monkeypatch.setattr(contrastive_cases.MODELS, 'build', lambda cfg: made({**cfg, **keys}))
    assert farthest(contrastive_cases._losses('SupConLoss')(DOUBLE), 'SupConLoss') > 1e-2
