"""Levers switch on what is off and off what is on, and leave the user's settings."""

import pytest

from hybridcls.apis.ablation import LEVERS, lever_of
from hybridcls.engine import load_config

HYBRID = 'hybridcls::digits/ce_hybrid.py'


@pytest.fixture(scope='module')
def plain():
    return load_config(HYBRID).to_dict()


@pytest.mark.parametrize('name', [name for name in LEVERS if name not in ('supcon', 'dha')])
def test_a_lever_that_is_off_is_switched_on_alone(plain, name):
    assert LEVERS[name].on(plain)
    assert LEVERS[name].off(plain) == {}


def test_a_lever_that_is_on_keeps_its_settings_and_can_be_taken_off():
    options = {
        'optim_wrapper.stages': dict(mine=dict(type='SAM', rho=0.2)),
        'model.backbone.lora_rank': 3,
        'default_hooks.average': dict(type='EMAHook', momentum=0.1),
    }
    cfg = load_config(HYBRID, options).to_dict()
    for name in ('sam', 'lora', 'ema', 'dha'):
        assert LEVERS[name].on(cfg) == {}
    assert LEVERS['sam'].off(cfg) == dict(optim_wrapper=dict(stages=dict(mine=None)))
    assert LEVERS['lora'].off(cfg) == dict(model=dict(backbone=dict(lora_rank=0)))
    assert LEVERS['ema'].off(cfg) == dict(default_hooks=dict(average=None))
    assert LEVERS['dha'].off(cfg) == dict(model=dict(neck=dict(_delete_=True, type='ConcatFusion', fusion_dim=128)))


def test_a_wrapper_without_a_type_becomes_one_that_has_stages():
    changes = LEVERS['gc'].on(dict(optim_wrapper=dict(optimizer=dict(type='SGD'))))
    assert changes['optim_wrapper']['type'] == 'ComposedOptimWrapper'
    assert 'type' not in LEVERS['gc'].on(dict(optim_wrapper=dict(type='Mine')))['optim_wrapper']


def test_a_lever_of_ones_own():
    lever = lever_of(
        "mine:model.head.loss=dict(type='Focal', gamma=[1, 2]),lr=0.1, optim_wrapper.clip_grad=None,a.b=word"
    )
    assert lever.name == 'mine'
    assert lever.on({}) == dict(
        model=dict(head=dict(loss=dict(type='Focal', gamma=[1, 2]))),
        lr=0.1,
        optim_wrapper=dict(clip_grad=None),
        a=dict(b='word'),
    )
    assert lever.off({}) == {}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('lookahed', "Did you mean 'lookahead'"),
        ('sam:lr=1', 'expected a new name'),
        ('base:lr=1', 'expected a new name'),
        ('a b:lr=1', 'expected a new name'),
        ('mine:lr', r"expected NAME:KEY=VALUE.*got 'lr'"),
        ('mine:', 'expected NAME:KEY=VALUE'),
        ('mine:custom_hooks.0.k=7', r"got 'custom_hooks\.0\.k', which is in a list.*: custom_hooks=\[\.\.\.\]\."),
    ],
)
def test_a_wrong_lever_is_named(text, message):
    with pytest.raises(ValueError, match=f'ablate: .*{message}'):
        lever_of(text)
