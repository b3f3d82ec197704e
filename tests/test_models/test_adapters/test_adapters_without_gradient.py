"""Adapted layers that the model never calls are found before a training."""

import pytest
import torch
from torch import nn

from hybridcls.models.adapters import LoRASettings, add_lora
from hybridcls.models.adapters.adapters_without_gradient import check_adapters_act


class Model(nn.Module):
    """One layer that is called, and one of which only the weight is used."""

    def __init__(self):
        super().__init__()
        self.called, self.bypassed = nn.Linear(12, 4), nn.Linear(4, 4)

    def forward(self, x):
        return nn.functional.linear(self.called(x.flatten(1)), self.bypassed.weight)


@pytest.mark.parametrize('targets', [['called'], ['called', 'bypassed']])
def test_a_layer_whose_weight_alone_is_used(targets):
    model = Model()
    add_lora(model, LoRASettings(2, targets=targets))
    if targets == ['called']:
        check_adapters_act('test', model, (3, 2, 2))
    else:
        with pytest.raises(ValueError, match=r'test: 1 adapted layers are never called .*: bypassed. Leave them out'):
            check_adapters_act('test', model, (3, 2, 2))
    model(torch.rand(1, 3, 2, 2)).sum().backward()  # the check has left no hooks, and the mode as it was
    assert model.training
    assert not model.called._forward_pre_hooks


def test_a_model_without_adapters_is_not_run():
    check_adapters_act('test', nn.Linear(5, 5), (3, 2, 2))  # it would fail on an image
