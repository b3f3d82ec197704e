import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, module_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in module_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


@pytest.mark.parametrize(('name', 'keys'), [('TokenLearner', dict(form='plain')), ('TokenFuser', dict(use_norm=False))])
def test_another_form_is_noticed(name, keys, monkeypatch):
    learner = module_cases.LEARNERS[name]
    monkeypatch.setitem(module_cases.LEARNERS, name, learner._replace(keys={**learner.keys, **keys}))
    assert farthest(module_cases._learner(name)(DOUBLE), name) > 1e-3
