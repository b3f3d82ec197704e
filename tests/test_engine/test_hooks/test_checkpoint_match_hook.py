"""A checkpoint is compared with the model, and what was loaded is told once."""

import pytest
import torch
from toy_runs import run_test, train

from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError

SHORT = {'train_cfg.max_epochs': 1, 'log_level': 'INFO'}


def told(folder):
    """The lines of a run's log from the first about weights on, and how many there are."""
    text = '\n'.join(path.read_text() for path in folder.rglob('*.log'))
    return text[text.find('Weights from') :], text.count('Weights from')


@pytest.fixture
def trained(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'first', **SHORT)
    return str(tmp_path / 'first/epoch_1.pth')


@pytest.mark.parametrize('hooks', [[dict(type='TransferHook', parts=['backbone'])], []])
def test_what_was_loaded_new_and_left_out_is_told_once(toy_configs, tmp_path, trained, hooks):
    content = torch.load(trained, weights_only=False)
    content['state_dict']['extra.weight'] = torch.zeros(1)
    torch.save(content, tmp_path / 'more.pth')
    options = dict(SHORT, load_from=str(tmp_path / 'more.pth'))
    train(toy_configs / 'toy.py', tmp_path / 'next', custom_hooks=hooks, **options)
    lines, times = told(tmp_path / 'next')
    assert times == 1
    assert 'extra 1' in lines
    if hooks:
        assert 'weights loaded (backbone ' in lines
        assert 'new, with their initial values (neck ' in lines
        assert 'of the checkpoint left out (extra 1, neck ' in lines


def test_a_weight_of_another_shape_is_told_with_both(toy_configs, tmp_path, trained):
    content = torch.load(trained, weights_only=False)
    content['state_dict']['head.weight'] = torch.zeros(7, 5)
    torch.save(content, tmp_path / 'other.pth')
    options = dict(SHORT, load_from=str(tmp_path / 'other.pth'), custom_hooks=[dict(type='TransferHook', parts=None)])
    train(toy_configs / 'toy.py', tmp_path / 'next', **options)
    assert 'head.weight is (7, 5) in the checkpoint' in told(tmp_path / 'next')[0]


def test_a_test_needs_every_weight(toy_configs, tmp_path, trained):
    content = torch.load(trained, weights_only=False)
    del content['state_dict']['head.weight']
    torch.save(content, tmp_path / 'less.pth')
    with pytest.raises(WeightMismatchError, match=r'of the model are not in it \(first: head.weight\)'):
        run_test(toy_configs / 'toy.py', str(tmp_path / 'less.pth'), tmp_path / 'test')
