"""Who wrote a value, and in which order they count."""

import inspect

from mmengine.runner import Runner

from hybridcls.engine.config.origins import CODE, FILLED, OPTION, RUNNER_KEYS, ConfigError, Layer


def test_the_nearer_wins():
    base, file = Layer(-1, 'base.py'), Layer(0, 'mine.py')
    assert sorted([OPTION, file, CODE, FILLED, base]) == [FILLED, base, file, OPTION, CODE]


def test_every_argument_of_a_runner_is_a_key_and_no_variable():
    takes = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    assert takes <= {*RUNNER_KEYS}


def test_an_error_of_a_config_is_a_value_error():
    """What callers of mmengine's Config catch."""
    assert issubclass(ConfigError, ValueError)
