"""Merged weights are W + alpha / r B A, and unmerging gives the same bits back."""

import pytest
import torch
from torch import nn

from hybridcls.models.adapters import LoRASettings, add_lora, lora_layers, merge_lora


def adapted(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).to(dtype)
    add_lora(model, LoRASettings(2, alpha=4.0, targets=['0']))
    with torch.no_grad():
        model[0].lora_B['default'].weight.copy_(torch.randn(5, 2))
    return model


def test_the_merged_weight_is_the_formula():
    model = adapted()
    layer = model[0]
    expected = layer.weight + 4.0 / 2 * layer.lora_B['default'].weight @ layer.lora_A['default'].weight
    before = model(torch.ones(1, 6))
    merged = merge_lora(model)
    assert len(merged) == 1
    assert type(model[0]) is nn.Linear
    torch.testing.assert_close(model[0].weight, expected)
    torch.testing.assert_close(model(torch.ones(1, 6)), before)


def test_undo_restores_the_bits_and_the_adapters():
    model = adapted(torch.bfloat16)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    merged = merge_lora(model)
    assert not lora_layers(model)
    merged.undo()
    assert list(lora_layers(model)) == ['0']
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert len(merged) == 0


def test_nothing_is_merged_where_something_is_not_finite():
    model = adapted()
    with torch.no_grad():
        model[0].lora_A['default'].weight[0, 0] = float('inf')
    with pytest.raises(ValueError, match='merge_lora: weights or adapters of 0 are not finite'):
        merge_lora(model)
    assert list(lora_layers(model)) == ['0']
    assert len(merge_lora(nn.Linear(2, 2))) == 0
