"""A run that starts from parts of another one."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hybridcls.engine import WeightMismatchError
from hybridcls.engine.hooks import CheckpointMatchHook, TransferHook


def network(seed, width=5):
    torch.manual_seed(seed)
    return nn.ModuleDict(dict(backbone=nn.Linear(4, 5), neck=nn.Linear(5, width), head=nn.Linear(width, 3)))


def transfer(hook, source, resume=False, hooks=()):
    model = network(0)
    logger = logging.getLogger('transfer')
    runner = SimpleNamespace(model=model, hooks=hooks, _resume=resume, _load_from='a.pth', logger=logger)
    checkpoint = dict(state_dict=source, ema_state_dict={'backbone.weight': torch.zeros(5, 4)})
    hook.after_load_checkpoint(runner, checkpoint)
    return model.state_dict(), checkpoint


@pytest.mark.parametrize(
    ('parts', 'taken'),
    [
        (('backbone', 'neck'), {'backbone', 'neck'}),
        (['neck'], {'neck'}),
        (None, {'backbone', 'neck', 'head'}),
    ],
)
def test_the_named_parts_come_from_the_file_and_the_rest_is_initial(parts, taken, caplog):
    other = network(1).state_dict()
    with caplog.at_level(logging.INFO):
        own, checkpoint = transfer(TransferHook(parts), other)
    assert checkpoint['state_dict'].keys() == own.keys()  # fits the model strictly
    for name, value in checkpoint['state_dict'].items():
        source = other if name.split('.')[0] in taken else own
        assert torch.equal(value, source[name]), name
    assert 'ema_state_dict' not in checkpoint  # an average starts where the model does
    assert f'{2 * len(taken)} weights loaded' in caplog.text


def test_by_default_backbone_and_neck():
    assert TransferHook().parts == ('backbone', 'neck')


def test_another_shape_keeps_its_initial_weights():
    own, checkpoint = transfer(TransferHook(None), network(1, width=6).state_dict())
    assert torch.equal(checkpoint['state_dict']['neck.weight'], own['neck.weight'])
    assert not torch.equal(checkpoint['state_dict']['backbone.weight'], own['backbone.weight'])


def test_initial_weights_are_copies():
    own, checkpoint = transfer(TransferHook(['neck']), network(1).state_dict())
    checkpoint['state_dict']['head.weight'].add_(1)
    assert not torch.equal(checkpoint['state_dict']['head.weight'], own['head.weight'])


def test_nothing_that_fits_is_an_error():
    with pytest.raises(WeightMismatchError):
        transfer(TransferHook(), {'other.weight': torch.ones(1)})


def test_a_run_that_resumes_is_left_alone():
    other = network(1).state_dict()
    _, checkpoint = transfer(TransferHook(), other, resume=True)
    assert checkpoint['state_dict'] is other
    assert 'ema_state_dict' in checkpoint


def test_it_is_silent_where_another_hook_tells_what_was_loaded(caplog):
    with caplog.at_level(logging.INFO):
        transfer(TransferHook(), network(1).state_dict(), hooks=[CheckpointMatchHook()])
    assert not caplog.messages
