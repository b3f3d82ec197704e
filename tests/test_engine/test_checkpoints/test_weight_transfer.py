"""Weights that go from a checkpoint to a model, and the report of it."""

import pytest
import torch
from torch import nn
from toy_runs import run_test, train

from hybridcls.engine import TransferReport, WeightMismatchError, transfer_weights
from hybridcls.engine.checkpoints.weight_transfer import select_weights


class Net(nn.Module):
    """backbone, neck, head."""

    def __init__(self, width=3, classes=2):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.neck = nn.Linear(width, 4)
        self.head = nn.Linear(4, classes)


def test_backbone_and_neck_go_over_and_the_head_does_not(tmp_path):
    old, new = Net(), Net(classes=5)
    initial_head = new.head.weight.clone()
    torch.save(dict(state_dict=old.state_dict()), tmp_path / 'a.pth')
    report = transfer_weights(new, str(tmp_path / 'a.pth'))
    torch.testing.assert_close(new.backbone.state_dict(), old.backbone.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(new.neck.weight, old.neck.weight, rtol=0, atol=0)
    torch.testing.assert_close(new.head.weight, initial_head, rtol=0, atol=0)
    assert report.new == report.left_out == ['head.weight', 'head.bias']
    assert len(report.loaded) == 9
    assert '9 weights loaded (backbone 7, neck 2)' in str(report)


def test_other_shapes_are_named_and_keep_their_initial_values():
    old, new = Net(width=3), Net(width=6)
    report = select_weights(old.state_dict(), new.state_dict())
    assert ('backbone.0.weight', (3, 2), (6, 2)) in report.mismatched
    assert report.loaded == ['backbone.1.num_batches_tracked', 'neck.bias']
    assert 'backbone.0.weight is (3, 2) in the checkpoint and (6, 2) in the model' in str(report)
    new.load_state_dict(report.state)  # complete: strict loading works


def test_a_prefix_of_a_wrapper_is_ignored():
    old = {f'module.{name}': value for name, value in Net().state_dict().items()}
    assert len(select_weights(old, Net().state_dict()).loaded) == 9


def test_all_parts():
    assert 'head.weight' in select_weights(Net().state_dict(), Net().state_dict(), parts=None).loaded


def test_nothing_that_fits_is_an_error_that_says_what_there_is():
    with pytest.raises(
        WeightMismatchError,
        match=r'None of the 2 weights .* The checkpoint holds layers 2; the model '
        r'has backbone 7, neck 2, head 2',
    ):
        select_weights({'layers.0': torch.zeros(1), 'layers.1': torch.zeros(1)}, Net().state_dict())


def test_a_missing_checkpoint_is_named_with_those_that_are_there(tmp_path):
    torch.save({}, tmp_path / 'epoch_3.pth')
    with pytest.raises(FileNotFoundError, match=r'does not exist.*epoch_3\.pth'):
        transfer_weights(Net(), str(tmp_path / 'epoch_4.pth'))


def test_a_report_of_nothing():
    assert str(TransferReport()) == '0 weights loaded'


def test_what_is_reported_was_loaded(tmp_path):
    """The values are compared after loading: a model may change or drop what it is given, without a word."""
    torch.save(dict(state_dict=Net().state_dict()), tmp_path / 'a.pth')
    model = Net()
    model.neck._load_from_state_dict = lambda *_: None
    with pytest.raises(WeightMismatchError, match=r'2 weights were read, .* other values .*first: neck\.weight'):
        transfer_weights(model, str(tmp_path / 'a.pth'))


def test_a_run_compares_after_loading(toy_configs, tmp_path, trained, monkeypatch):
    monkeypatch.setattr(nn.Linear, '_load_from_state_dict', lambda *_: None)
    with pytest.raises(WeightMismatchError, match='other values after loading'):
        run_test(toy_configs / 'toy.py', trained, tmp_path / 'test')


@pytest.fixture
def trained(toy_configs, tmp_path):
    """The checkpoint of a short training."""
    train(toy_configs / 'toy.py', tmp_path / 'first', **{'train_cfg.max_epochs': 1})
    return str(tmp_path / 'first' / 'epoch_1.pth')


def test_load_from_with_the_hook_starts_from_the_named_parts(toy_configs, tmp_path, trained):
    still = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, 'load_from': trained}
    runner = train(
        toy_configs / 'second.py',
        tmp_path / 'second',
        **still,
        custom_hooks=[dict(type='TransferHook', parts=['neck'])],
    )
    weights = torch.load(trained, weights_only=False)['state_dict']
    torch.testing.assert_close(runner.model.neck.weight.data, weights['neck.weight'], rtol=0, atol=0)
    assert not torch.equal(runner.model.backbone[0].weight, weights['backbone.0.weight'])


def test_an_average_of_weights_starts_from_the_same_weights(toy_configs, tmp_path, trained):
    still = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, 'load_from': trained}
    runner = train(
        toy_configs / 'second.py',
        tmp_path / 'second',
        **still,
        custom_hooks=[dict(type='TransferHook'), dict(type='EMAHook')],
    )
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    torch.testing.assert_close(ema.head.weight, runner.model.head.weight)
    torch.testing.assert_close(ema.neck.weight, runner.model.neck.weight)


def test_load_from_of_another_architecture_is_an_error(toy_configs, tmp_path):
    torch.save(dict(state_dict=dict(layer=torch.zeros(2))), tmp_path / 'other.pth')
    with pytest.raises(WeightMismatchError, match='None of the 1 weights'):
        train(toy_configs / 'toy.py', tmp_path / 'x', load_from=str(tmp_path / 'other.pth'))


def test_load_from_with_another_head_is_allowed(toy_configs, tmp_path, trained):
    still = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1, 'load_from': trained}
    runner = train(toy_configs / 'second.py', tmp_path / 'second', **still)
    weights = torch.load(trained, weights_only=False)['state_dict']
    torch.testing.assert_close(runner.model.backbone[0].weight.data, weights['backbone.0.weight'], rtol=0, atol=0)


def test_testing_wants_every_weight(toy_configs, tmp_path, trained):
    with pytest.raises(
        WeightMismatchError,
        match=r'2 have another shape \(first: head\.weight, \(3, 6\) in the '
        r'checkpoint, \(2, 6\) in the model\)',
    ):
        run_test(toy_configs / 'second.py', trained, tmp_path / 'test')
    assert run_test(toy_configs / 'toy.py', trained, tmp_path / 'test')['toy/top1'] > 0


def test_a_weight_that_is_missing_or_too_many_is_named(toy_configs, tmp_path, trained):
    checkpoint = torch.load(trained, weights_only=False)
    checkpoint['state_dict']['extra.weight'] = checkpoint['state_dict'].pop('neck.bias')
    torch.save(checkpoint, tmp_path / 'changed.pth')
    with pytest.raises(WeightMismatchError, match=r'first: neck\.bias.*first: extra\.weight'):
        run_test(toy_configs / 'toy.py', str(tmp_path / 'changed.pth'), tmp_path / 'test')
