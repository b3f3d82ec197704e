"""``--cfg-options``, beside mmengine's own reading of it."""

import argparse

import pytest
from mmengine.config import DictAction

from hybridcls.cli.config_options import ConfigOptions


def read(*arguments, action=ConfigOptions):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=action)
    return parser.parse_args(['--cfg-options', *arguments]).cfg_options


@pytest.mark.parametrize(
    'option',
    ['lr=0.1', 'betas=0.9,0.99', 'topk=[1,5]', 'list=[(1,2),(3,4)]', 'a.b.0.c=x', 'flag=True', 'none=None', 'empty='],
)
def test_plain_values_are_read_as_mmengine_reads_them(option):
    assert read(option) == read(option, action=DictAction)


def test_a_dict_is_read_as_python_writes_it():
    assert read("optimizer=dict(type='SGD', lr=0.1)", 'x={"a": [1, 2]}') == {
        'optimizer': dict(type='SGD', lr=0.1),
        'x': dict(a=[1, 2]),
    }


def test_options_are_added_to_earlier_ones():
    assert read('a=1', 'c=4', '--cfg-options', 'b=2', 'a=3') == dict(a=3, b=2, c=4)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('lr', 'expected KEY=VALUE'),
        ('=1', 'expected KEY=VALUE'),
        ('o=[1,2', 'o=[1,2: expected as many opening as closing brackets.'),
        ('o=(1,(2)', 'expected as many opening as closing brackets'),
        ('o=dict(type=SGD)', 'expected a dict in Python syntax'),
    ],
)
def test_what_is_no_option_ends_with_a_sentence(option, message, capsys):
    with pytest.raises(SystemExit) as ended:
        read(option)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
