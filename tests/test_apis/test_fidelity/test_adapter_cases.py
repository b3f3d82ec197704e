import pytest
import torch
from fidelity_checks import CPU, assert_faithful

from hybridcls.apis.fidelity import Place, adapter_cases
from hybridcls.apis.fidelity.case_comparison import deviation
from hybridcls.apis.fidelity.stored_numbers import stored_numbers

DOUBLE = Place(CPU, torch.float64)


@pytest.mark.parametrize('case', [case.name for case in adapter_cases.CASES])
def test_within_what_is_allowed(case):
    assert_faithful(case, torch.float64)


def farthest(found, name):
    expected = stored_numbers(name)
    return max(deviation(found[key].detach().numpy(), expected[key]) for key in expected)


def test_attention_without_sizes_is_noticed(monkeypatch):
    name = 'Token merging in a DeiT'
    turned = [(r, not proportional) for r, proportional in adapter_cases.MERGINGS[name]]
    monkeypatch.setitem(adapter_cases.MERGINGS, name, turned)
    found = adapter_cases._merged_model(name, DOUBLE)
    expected = stored_numbers(name)
    for (r, proportional), key in zip(turned, expected, strict=True):
        assert deviation(found[f'{r} {proportional}'].numpy(), expected[f'{r} {not proportional}']) > 1e-3, key


def test_alpha_is_noticed(monkeypatch):
    monkeypatch.setattr(adapter_cases, 'LORA_ALPHA', 4)
    assert farthest(adapter_cases._lora(DOUBLE), 'LoRA') > 1e-2
