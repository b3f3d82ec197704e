import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, stage_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in stage_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


@pytest.mark.parametrize(
    ('name', 'keys'),
    [
        ('SAM', dict(rho=0.301)),
        ('ASAM', dict(eta=0.01)),
        ('MSAM', dict(rho=0.301)),
        ('FriendlySAM', dict(lmbda=0.61)),
        ('Lookahead', dict(momentum='reset')),
        ('GradientCentralization', dict(layers='all')),
        ('GradientCentralization', dict(with_weight_decay=False)),
    ],
)
def test_another_setting_is_noticed(name, keys):
    training = stage_cases.TRAININGS[name]
    other = training._replace(stage={**training.stage, **keys})
    assert farthest(stage_cases._trained(other)(DOUBLE), name) > 1e-5
