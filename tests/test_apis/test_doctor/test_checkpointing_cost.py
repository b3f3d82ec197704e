"""Activation checkpointing is measured in place, and left as it was."""

import pytest
import torch

from hybridcls.apis.doctor.checkpointing_cost import checkpointing_cost
from hybridcls.apis.memory import peak_memory
from hybridcls.models import HybridBackbone


@pytest.mark.parametrize('with_cp', [False, True])
def test_it_saves_memory_for_time(with_cp):
    vit = dict(model_name='test_vit', depth=6)
    model, images, states = HybridBackbone(vit=vit, img_size=32, with_cp=with_cp), torch.rand(32, 3, 32, 32), []

    def step():
        states.append(model.vit.model.grad_checkpointing)
        model.zero_grad()
        model(images)[0].sum().backward()

    step()
    cost = checkpointing_cost(model, step, lambda: peak_memory(step, 'cpu'))
    assert 0.2 < cost.memory < 0.8
    assert cost.is_on == with_cp == model.vit.model.grad_checkpointing
    assert states == [with_cp, True, True, False, False]
    assert str(cost._replace(memory=0.5, seconds=1.25)) == (
        f'with_cp=True {"takes" if with_cp else "would take"} 0.50 of the memory of a step and 1.25 of its time'
    )


def test_where_no_stream_can_it_is_not_told(monkeypatch):
    assert checkpointing_cost(torch.nn.Linear(2, 2), lambda: 1 / 0, lambda: 1 / 0) is None
    model = HybridBackbone(cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=32)

    def has_none(enable):
        assert not enable, 'gradient checkpointing not supported'  # as timm's models say it

    monkeypatch.setattr(model.vit.model, 'set_grad_checkpointing', has_none)
    assert checkpointing_cost(model, lambda: None, lambda: 1) is None
    assert not model.cnn.model.grad_checkpointing
