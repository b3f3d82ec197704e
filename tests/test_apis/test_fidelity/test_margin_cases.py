import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, margin_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in margin_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


# The forms that the heads have by default, where that of the code is another one; another margin.
OTHERS = {
    'ArcFaceHead': dict(type='ArcFaceHead', margin=0.5, scale=16.0),
    'CosFaceHead': dict(type='CosFaceHead', margin=0.3, scale=16.0),
    'LDAM margins': dict(type='MarginHead', scale=30.0, margin=dict(
        type='ClassWise', base=dict(type='CosFace'), counts=margin_cases.CLASS_COUNTS, high=0.5)),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_another_form_is_noticed(name):
    found = margin_cases._of_head(*margin_cases._OF_BATCH, **OTHERS[name])(DOUBLE)
    assert farthest(found, name) > 1e-3


def test_the_falling_form_past_pi_and_other_subcenters_are_noticed(monkeypatch):
    made, combine = margin_cases._head, margin_cases.combined_margin_on_target
    monkeypatch.setattr(
        margin_cases, 'combined_margin_on_target', lambda cosine, *margins, **_: combine(cosine, *margins)
    )
    assert farthest(margin_cases._combined(DOUBLE), 'CombinedMargin') > 1e-3
    monkeypatch.setattr(margin_cases, '_head', lambda place, weight, **keys: made(place, weight[:, [1, 0, 2]], **keys))
    assert farthest(margin_cases._subcenters(DOUBLE), 'Sub-center ArcFace') > 1e-3


def test_without_its_switches_adaface_is_not_the_newer_code():
    assert farthest(margin_cases._adaface(4)(DOUBLE), 'AdaFaceHead, CVLFace') > 1e-3
