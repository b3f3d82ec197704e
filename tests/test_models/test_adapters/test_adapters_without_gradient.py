"""Adapters around layers whose weights the model uses without calling them."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from hybridcls.models.adapters.adapters_without_gradient import check_adapters_act


class Model(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.called, self.read, self.calls = nn.Linear(3, 4), nn.Linear(4, 2), calls

    def forward(self, images):
        x = self.called(images.mean((2, 3)))
        return self.read(x) if self.calls else F.linear(x, self.read.weight)


def adapted(calls):
    return inject_adapter_in_model(LoraConfig(r=1, target_modules=['called', 'read']), Model(calls))


def test_what_is_called_acts():
    model = adapted(calls=True)
    check_adapters_act('me', model, (3, 8, 8))
    assert not any(module._forward_pre_hooks for module in model.modules())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(value.grad is not None for name, value in model.named_parameters() if 'lora' in name)


def test_what_is_only_read_is_named():
    model = adapted(calls=False)
    with pytest.raises(ValueError, match=r'me: 1 adapted layers are never called .* learn nothing: read\. Leave'):
        check_adapters_act('me', model, (3, 8, 8))
    model(torch.rand(2, 3, 8, 8)).sum().backward()  # as torch says it
    assert model.read.lora_A['default'].weight.grad is None


def test_a_model_without_adapters_is_not_run():
    check_adapters_act('me', nn.Linear(1, 1), (3, 8, 8))
