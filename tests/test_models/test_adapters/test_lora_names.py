"""State dicts of adapted models: names as before, and what a checkpoint of adapters leaves out."""

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch import nn

from hybridcls.models.adapters.lora_names import keep_plain_names, plain_name


def adapted(only_trained=None, train_norm=False):
    """PEFT's own layers around fc1, with plain names if ``only_trained`` is not None."""
    torch.manual_seed(0)
    plain = nn.Sequential()
    plain.add_module('fc1', nn.Linear(3, 4))
    plain.add_module('norm', nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    model = inject_adapter_in_model(LoraConfig(r=2, target_modules=['fc1']), plain)
    model.norm.requires_grad_(train_norm)
    peft_names = set(get_peft_model_state_dict(model))
    if only_trained is not None:
        keep_plain_names(model, only_trained)
    return model, before, peft_names


def test_names_are_those_of_before_and_those_of_peft():
    model, before, peft_names = adapted(only_trained=False)
    state = model.state_dict()
    assert state.keys() == before.keys() | peft_names
    assert list(state)[:2] == ['fc1.weight', 'fc1.bias']  # the order stays
    for name, value in before.items():
        assert torch.equal(state[name], value)


@pytest.mark.parametrize('names', ['plain', 'of PEFT'])
def test_weights_of_before_and_of_pefts_names_load(names):
    model, _, _ = adapted(only_trained=False)
    other, _, _ = adapted()
    for value in other.parameters():
        nn.init.normal_(value)
    state = other.state_dict()
    if names == 'plain':
        state = {plain_name(name): value for name, value in state.items()}
    model.load_state_dict(state)
    x = torch.randn(5, 3)
    torch.testing.assert_close(model.eval()(x), other.eval()(x), rtol=0, atol=0)


def test_a_checkpoint_of_adapters_alone():
    model, _, peft_names = adapted(only_trained=True)
    state = model.state_dict()
    assert state.keys() == peft_names
    assert {f'part.{name}' for name in peft_names} == nn.ModuleDict(dict(part=model)).state_dict().keys()
    nn.init.normal_(state['fc1.lora_B.weight'])
    other, _, _ = adapted(only_trained=True)
    other.load_state_dict(state)  # strict: what is left out is not missing
    assert torch.equal(other.fc1.lora_B.default.weight, state['fc1.lora_B.weight'])


def test_a_checkpoint_of_adapters_has_the_statistics_of_trained_norms():
    (model, _, _), (other, _, _) = (adapted(only_trained=True, train_norm=True) for _ in range(2))
    x = torch.randn(5, 3)
    model.train()(x)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_adapters_that_are_frozen_for_a_while_stay_in_checkpoints():
    model, _, peft_names = adapted(only_trained=True)
    model.requires_grad_(False)
    state = model.state_dict()
    assert state.keys() == peft_names
    nn.init.normal_(state['fc1.lora_B.weight'])
    other, _, _ = adapted(only_trained=True)
    other.requires_grad_(False).load_state_dict(state)
    assert torch.equal(other.fc1.lora_B.default.weight, state['fc1.lora_B.weight'])


def test_another_value_of_what_is_left_out_is_refused():
    model, before, _ = adapted(only_trained=True)
    with pytest.raises(ValueError, match=r"checkpoints leave norm\.running_mean out.*checkpoint='all'"):
        model.load_state_dict({**before, 'norm.running_mean': torch.ones(4)}, strict=False)
