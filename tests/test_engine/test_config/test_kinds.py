"""A value of a kind that nothing can be built from is answered before anything reads it."""

import pytest

from hybridcls.engine import ConfigError, load_config


@pytest.mark.parametrize(('key', 'value', 'expected'), [
    ('model', 'ToyModel', 'a dict'), ('optim_wrapper', 'SGD', 'a dict'), ('train_cfg', 3, 'a dict'),
    ('default_hooks', [dict(type='EMAHook')], 'a dict'), ('default_hooks.timer', 'IterTimerHook', 'a dict'),
    ('custom_hooks', dict(type='EMAHook'), 'a list'), ('custom_hooks', ['EMAHook'], 'a dict'),
    ('param_scheduler', ['StepLR'], 'a dict'), ('randomness', 3, 'a dict'), ('env_cfg', True, 'a dict'),
    ('auto_scale_lr', 3, 'a dict'), ('launcher', 3, 'text'), ('load_from', 3, 'text'), ('phases', 3, 'a list'),
])  # fmt: skip
def test_a_wrong_kind_names_the_key(toy_configs, key, value, expected):
    with pytest.raises(ConfigError, match=rf'{key}(\.0)?: expected {expected}, got '):
        load_config(toy_configs / 'toy.py', {key: value, 'seed': 0})


def test_none_switches_off(toy_configs):
    options = dict.fromkeys(['custom_hooks', 'param_scheduler', 'default_hooks.timer', 'load_from', 'launcher'])
    assert load_config(toy_configs / 'toy.py', options).default_hooks.timer is None
