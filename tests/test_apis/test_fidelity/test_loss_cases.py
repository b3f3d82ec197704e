import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, loss_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in loss_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


def test_the_gradient_of_the_focus_is_noticed():
    numbers = stored_numbers('AsymmetricLoss')
    with_focus, without = (numbers[f'[4, 1, 0.05] {flag} gradient'] for flag in (True, False))
    assert deviation(with_focus, without) > 1e-2


def test_a_mean_over_all_images_is_noticed(monkeypatch):
    made = loss_cases.MODELS.build
    monkeypatch.setattr(loss_cases.MODELS, 'build', lambda cfg: made({**cfg, 'influence_mean': 'all'}))
    assert farthest(loss_cases._backward_compatible(DOUBLE), 'Backward-compatible training') > 1e-2


def test_another_temperature_is_noticed(monkeypatch):
    found = loss_cases._of_student(lambda ours, theirs: loss_cases.kd_kl_loss(ours, theirs, 2.1))(DOUBLE)
    assert farthest({f'{t} {name}': value for t in loss_cases.TEMPERATURES for name, value in found.items()},
                    'Distillation') > 1e-3  # fmt: skip
