"""A run starts from some parts of a checkpoint."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError
from hybridcls.engine.hooks import CheckpointMatchHook, TransferHook


def runner(model, *hooks, resume=False):
    lines = []
    logger = SimpleNamespace(info=lines.append)
    return SimpleNamespace(model=model, hooks=hooks, _resume=resume, _load_from='x.pth', logger=logger, lines=lines)


def model(value):
    built = nn.ModuleDict(dict(backbone=nn.Linear(2, 2), neck=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    for param in built.parameters():
        nn.init.constant_(param, value)
    return built


@pytest.mark.parametrize('parts', [('backbone',), ('backbone', 'neck'), None])
def test_the_named_parts_are_the_checkpoints_and_the_others_the_models(parts):
    checkpoint = dict(state_dict=model(1.0).state_dict(), ema_state_dict={})
    TransferHook(parts).after_load_checkpoint(run := runner(model(2.0)), checkpoint)
    for name, value in checkpoint['state_dict'].items():
        is_taken = parts is None or name.split('.')[0] in parts
        torch.testing.assert_close(value, torch.full_like(value, 1.0 if is_taken else 2.0))
    assert 'ema_state_dict' not in checkpoint
    assert len(run.lines) == 1


def test_a_resumed_run_is_left_alone():
    checkpoint = dict(state_dict=(state := model(1.0).state_dict()))
    TransferHook().after_load_checkpoint(runner(model(2.0), resume=True), checkpoint)
    assert checkpoint == dict(state_dict=state)


def test_it_is_silent_where_another_hook_tells_what_was_loaded():
    TransferHook().after_load_checkpoint(
        run := runner(model(2.0), CheckpointMatchHook()), dict(state_dict=model(1.0).state_dict())
    )
    assert run.lines == []


def test_nothing_that_fits_is_an_error():
    with pytest.raises(WeightMismatchError, match='None of the 1 weights'):
        TransferHook().after_load_checkpoint(runner(model(2.0)), dict(state_dict=dict(other=torch.zeros(1))))
