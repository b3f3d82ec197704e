"""State dicts of adapted models have the plain names, and both spellings load."""

import pytest
import torch
from torch import nn

from hybridcls.models.adapters import LoRASettings, add_lora, plain_name


def adapted(checkpoint='all'):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    add_lora(model, LoRASettings(2, targets=['0'], checkpoint=checkpoint))
    return model, plain


def test_plain_names():
    assert plain_name('a.base_layer.bias') == 'a.bias'
    assert plain_name('a.lora_magnitude_vector.default.weight') == 'a.lora_magnitude_vector.weight'
    assert plain_name('a.lora_Above.default.weight') == 'a.lora_Above.default.weight'


def test_a_state_dict_adds_the_adapters_to_the_names_of_before():
    model, plain = adapted()
    state = nn.ModuleDict(dict(vit=model)).state_dict()  # as a part of another model
    assert set(state) == {f'vit.{name}' for name in (*plain, '0.lora_A.weight', '0.lora_B.weight')}
    assert torch.equal(state['vit.0.weight'], plain['0.weight'])


def test_plain_and_peft_names_load():
    model, plain = adapted()
    twin, _ = adapted()
    changed = {name: value + 1 for name, value in model.state_dict().items()}
    peft = dict(changed)
    peft['0.base_layer.weight'] = peft.pop('0.weight')
    peft['0.lora_B.default.weight'] = peft.pop('0.lora_B.weight')
    for one, state in ((model, changed), (twin, peft)):
        one.load_state_dict(state)
        assert torch.equal(one[0].weight, plain['0.weight'] + 1)
        assert torch.equal(one[0].lora_B['default'].weight, torch.ones(3, 2))


def test_adapters_alone():
    model, plain = adapted('adapters')
    state = model.state_dict()
    assert set(state) == {'0.lora_A.weight', '0.lora_B.weight'}
    model.load_state_dict({name: value + 1 for name, value in state.items()})
    assert torch.equal(model[0].weight, plain['0.weight'])
    with pytest.raises(ValueError, match=r'checkpoints leave 0.weight out, since .* holds another value'):
        model.load_state_dict({**state, '0.weight': plain['0.weight'] + 1})
