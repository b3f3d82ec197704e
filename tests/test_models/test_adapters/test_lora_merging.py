"""Adapters merged into weights, beside PEFT's own formula, and taken out again."""

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from hybridcls.models.adapters.lora_merging import merge_lora

ALPHA, RANK = 6.0, 2


def adapted(dtype=torch.float32):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).to(dtype)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=['0', '2'])
    model = inject_adapter_in_model(config, model)
    for name, value in model.named_parameters():
        if 'lora_B' in name:
            nn.init.normal_(value, std=0.1)
    return model.eval()


def by_hand(layer):
    a, b = layer.lora_A['default'].weight.double(), layer.lora_B['default'].weight.double()
    return layer.get_base_layer().weight.double() + ALPHA / RANK * b @ a


@pytest.mark.parametrize(('dtype', 'unit'), [(torch.float32, 2**-23), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_each_weight_is_the_sum_rounded_once(dtype, unit):
    model = adapted(dtype)
    expected = [by_hand(model[0]), by_hand(model[2])]
    merged = merge_lora(model)
    assert len(merged) == 2
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU, nn.Linear]
    for layer, weight in zip((model[0], model[2]), expected, strict=True):
        assert layer.weight.dtype == dtype
        assert ((layer.weight.double() - weight).abs() <= weight.abs() * unit + 1e-7).all()


def test_a_merged_model_computes_the_same_and_is_undone_to_the_same_bits():
    model, x = adapted(), torch.randn(5, 8)
    before, output = {name: value.clone() for name, value in model.state_dict().items()}, model(x)
    merged = merge_lora(model)
    torch.testing.assert_close(model(x), output)
    merged.undo()
    assert torch.equal(model(x), output)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert len(merged) == 0


def test_what_is_not_finite_changes_nothing():
    model = adapted()
    model[2].lora_B['default'].weight.data[0, 0] = float('nan')
    weight = model[0].get_base_layer().weight.clone()
    with pytest.raises(ValueError, match='merge_lora: weights or adapters of 2 are not finite'):
        merge_lora(model)
    assert torch.equal(model[0].get_base_layer().weight, weight)


def test_without_adapters_there_is_nothing_to_merge():
    assert len(merge_lora(nn.Linear(2, 2))) == 0
