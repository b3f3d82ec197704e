import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, evidential_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in evidential_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


def test_the_weight_of_the_kl_is_noticed(monkeypatch):
    monkeypatch.setattr(evidential_cases, 'EPOCH', 6)
    assert farthest(evidential_cases._losses(DOUBLE), 'EvidentialLoss') > 1e-3
