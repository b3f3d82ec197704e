"""A value of a kind that nothing can be built from is answered before anything reads it."""

import pytest

from hybridcls.engine import ConfigError, load_config


@pytest.mark.parametrize(('key', 'value', 'expected'), [
    ('model', 'ToyModel', 'a dict'), ('optim_wrapper', 'SGD', 'a dict'), ('train_cfg', 3, 'a dict'),
    ('default_hooks', [dict(type='EMAHook')], 'a dict'), ('default_hooks.timer', 'IterTimerHook', 'a dict'),
    ('custom_hooks', dict(type='EMAHook'), 'a list'), ('custom_hooks', ['EMAHook'], 'a dict'),
    ('param_scheduler', ['StepLR'], 'a dict'), ('randomness', 3, 'a dict'), ('env_cfg', True, 'a dict'),
    ('lr', '1e-3x', 'a number'), ('optim_wrapper.optimizer.lr', '0.1', 'a number'), ('seed', 'abc', 'an integer'),
    ('randomness.seed', 1.5, 'an integer'),
    ('auto_scale_lr', 3, 'a dict'), ('launcher', 3, 'text'), ('load_from', 3, 'text'), ('phases', 3, 'a list'),
])  # fmt: skip
def test_a_wrong_kind_names_the_key(toy_configs, key, value, expected):
    with pytest.raises(ConfigError, match=rf'{key}(\.0)?: expected {expected}, got '):
        load_config(toy_configs / 'toy.py', {'seed': 0, key: value})


def test_none_switches_off(toy_configs):
    options = dict.fromkeys(['custom_hooks', 'param_scheduler', 'default_hooks.timer', 'load_from', 'launcher'])
    assert load_config(toy_configs / 'toy.py', options).default_hooks.timer is None


@pytest.mark.parametrize(
    ('key', 'value', 'advice'),
    [
        ('custom_hooks', dict(type='EMAHook'), r"got {'type': 'EMAHook'}\. Write \[dict\(\.\.\.\)\]\.$"),
        ('lr', '1e-3', r"got '1e-3'\. Write it without quotation marks; in YAML as 1\.0e-03\.$"),
        ('lr', 'fast', "got 'fast'\\.$"),
    ],
)
def test_what_to_write_instead(toy_configs, key, value, advice):
    with pytest.raises(ConfigError, match=advice):
        load_config(toy_configs / 'toy.py', {key: value})


def test_a_rate_that_yaml_reads_as_text(toy_configs):
    """YAML 1.1 wants a dot in a number with an exponent; what the message says is read as a number."""
    (toy_configs / 'mine.yml').write_text('_base_: toy.py\nlr: 1e-3\n')
    with pytest.raises(ConfigError, match=r'^lr: expected a number.*1\.0e-03'):
        load_config(toy_configs / 'mine.yml')
    (toy_configs / 'mine.yml').write_text('_base_: toy.py\nlr: 1.0e-03\n')
    assert load_config(toy_configs / 'mine.yml').lr == 1e-3
