"""Resumed runs with a changed config, against a run that had that config from its beginning."""

import pytest
import torch
from at_night import at_night
from toy_runs import rates, train


def log_of(work_dir):
    return '\n'.join(path.read_text() for path in sorted(work_dir.glob('2*/*.log')))


WARM_UP = [
    dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, convert_to_iter_based=True),
]
ADAM = dict(type='AdamW', lr=0.05, weight_decay=0.1, betas=(0.9, 0.99))
# In groups: the head learns ten times as fast, without decay.
GROUPS = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=ADAM,
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0, decay_mult=0.0))),
)
CHANGES = {
    'more epochs': ({}, {'train_cfg.max_epochs': 6}),
    'more epochs, warm-up and cosine': ({'param_scheduler': WARM_UP}, {'train_cfg.max_epochs': 6}),
    'a rate': ({}, {'optim_wrapper.optimizer.lr': 0.02}),
    'a rate without schedule': ({'param_scheduler': []}, {'optim_wrapper.optimizer.lr': 0.02}),
    'a rate of groups': ({'optim_wrapper': GROUPS}, {'optim_wrapper.optimizer.lr': 0.02}),
    'a warm-up less': ({'param_scheduler': WARM_UP}, {'param_scheduler': WARM_UP[1:]}),
    'another kind': ({}, {'param_scheduler': [dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5)]}),
    'no schedule any more': ({}, {'param_scheduler': []}),
    'one for the first time': ({'param_scheduler': []}, {'param_scheduler': [dict(type='ExponentialLR', gamma=0.5)]}),
    'a momentum that is scheduled': ({}, {'param_scheduler': [dict(type='CosineAnnealingMomentum', T_max=4)]}),
}


@pytest.mark.parametrize('what', at_night(CHANGES, 'more epochs', 'a rate', 'no schedule any more'))
def test_what_changed_is_as_if_it_had_been_so_from_the_beginning(toy_configs, tmp_path, what):
    before, after = CHANGES[what]
    train(toy_configs / 'toy.py', tmp_path / 'w', **before)
    after = {**before, 'train_cfg.max_epochs': 5, **after}
    resumed = train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **after)
    straight = train(toy_configs / 'toy.py', tmp_path / 'straight', **after)
    assert rates(resumed, 9) == rates(straight, 9)
    assert len(set(rates(straight))) > 1 or 'lr' in str(after) or what.startswith(('no', 'a momentum'))
    for one, other in zip(resumed.optim_wrapper.param_groups, straight.optim_wrapper.param_groups, strict=True):
        assert {**one, 'params': 0} == {**other, 'params': 0}
    for one, other in zip(resumed.param_schedulers, straight.param_schedulers, strict=True):
        one, other = one.state_dict(), other.state_dict()
        assert one == other


def test_weight_decay_is_that_of_the_config_group_by_group(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'optim_wrapper': GROUPS})
    after = {**GROUPS, 'optimizer': {**ADAM, 'weight_decay': 0.4, 'betas': (0.8, 0.99)}}
    runner = train(
        toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'optim_wrapper': after, 'train_cfg.max_epochs': 4}
    )
    groups = runner.optim_wrapper.optimizer.param_groups
    assert {group['weight_decay'] for group in groups} == {0.4, 0.0}
    assert {tuple(group['betas']) for group in groups} == {(0.8, 0.99)}
    log = log_of(tmp_path / 'w')
    assert 'optim_wrapper.optimizer.weight_decay 0.1 -> 0.4 (config changed since the checkpoint)' in log
    assert 'train_cfg.max_epochs 3 -> 4 (config changed since the checkpoint)' in log


def test_a_key_that_has_another_name_since_version_0_1_has_not_changed(toy_configs, tmp_path):
    new = {'optim_wrapper.type': 'ComposedOptimWrapper', 'optim_wrapper.nonfinite_loss': 'raise'}
    train(toy_configs / 'toy.py', tmp_path / 'w', **new)
    for path in (tmp_path / 'w').glob('*.pth'):
        checkpoint = torch.load(path, weights_only=False)
        text = checkpoint['meta']['cfg']
        assert "nonfinite_loss='raise'" in text
        checkpoint['meta']['cfg'] = text.replace("nonfinite_loss='raise'", "bad_loss='stop'")  # old spelling
        torch.save(checkpoint, path)
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{**new, 'train_cfg.max_epochs': 4})
    log = log_of(tmp_path / 'w')
    assert 'train_cfg.max_epochs 3 -> 4 (config changed' in log
    assert log.count('config changed') == 1


def test_nothing_is_said_or_touched_where_nothing_changed(toy_configs, tmp_path, toy_plugin):
    (toy_configs / 'stop.py').write_text("_base_ = 'toy.py'\ncustom_hooks = [dict(type='StopHook', epoch=2)]\n")
    with pytest.raises(toy_plugin.Stopped):
        train(toy_configs / 'stop.py', tmp_path / 'w', **{'param_scheduler': WARM_UP})
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'param_scheduler': WARM_UP})
    changed = [line for line in log_of(tmp_path / 'w').splitlines() if 'changed since' in line]
    assert all('custom_hooks' in line for line in changed), changed


def test_another_batch_size_goes_on_at_the_same_share_of_the_training(toy_configs, tmp_path):
    options = {'param_scheduler': WARM_UP, 'train_cfg.max_epochs': 6}
    by_iteration = dict(_delete_=True, type='CheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=20)
    train(toy_configs / 'toy.py', tmp_path / 'w', **options, **{'default_hooks.checkpoint': by_iteration})
    after = {**options, 'train_dataloader.batch_size': 4}
    straight = train(toy_configs / 'toy.py', tmp_path / 'straight', **after)
    for number, iteration in ((6, 12), (8, 16)):  # of 18 with three, and of 36 with six batches an epoch
        checkpoint = str(tmp_path / 'w' / f'iter_{number}.pth')
        resumed = train(toy_configs / 'toy.py', tmp_path / str(number), resume=checkpoint, **after)
        assert (resumed.epoch, resumed.iter) == (6, 36)
        assert rates(resumed, number) == rates(straight, iteration)
        assert 'An epoch has 6 batches, 3 in the checkpoint' in log_of(tmp_path / str(number))


def test_another_optimizer_begins_without_a_state(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w')
    after = {'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', lr=0.01), 'train_cfg.max_epochs': 4}
    runner = train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **after)
    assert next(iter(runner.optim_wrapper.optimizer.state.values()))['step'] == 3
    assert 'The optimizer is not the one of the checkpoint, so its state starts again.' in log_of(tmp_path / 'w')


def test_other_groups_are_an_error_in_a_sentence(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'optim_wrapper': GROUPS})
    after = {'optim_wrapper': {**GROUPS, 'paramwise_cfg': None}}
    with pytest.raises(ValueError, match=r'expected \d+ parameter groups, as in the checkpoint, got 1 from the config'):
        train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **after)


def test_a_shorter_training_than_the_checkpoint_says_so(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w')
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 2})
    assert 'The checkpoint is at epoch 3, and max_epochs=2: nothing is left to train.' in log_of(tmp_path / 'w')


def test_a_best_checkpoint_has_no_schedules_and_they_are_where_they_were(
    toy_configs, tmp_path, monkeypatch, toy_plugin
):
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(top1=1.0))
    options = {'train_cfg.max_epochs': 4}
    straight = train(toy_configs / 'toy.py', tmp_path / 'w', **options)
    best = str(tmp_path / 'w' / 'best_toy_top1_epoch_1.pth')
    resumed = train(toy_configs / 'toy.py', tmp_path / 'other', resume=best, **options)
    assert rates(resumed, 3) == rates(straight, 3)


PLATEAU = {
    'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='toy/top1', rule='greater', patience=1, factor=0.5)]
}


def test_a_plateau_keeps_its_reduced_rate_when_the_training_becomes_longer(
    toy_configs, tmp_path, monkeypatch, toy_plugin
):
    monkeypatch.setattr(toy_plugin.ToyAccuracy, 'compute_metrics', lambda self, results: dict(top1=1.0))
    options = {**PLATEAU, 'train_cfg.max_epochs': 4}
    before = train(toy_configs / 'toy.py', tmp_path / 'w', **options)
    assert rates(before)[-1] == 0.025
    after = train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **{**options, 'train_cfg.max_epochs': 7})
    straight = train(toy_configs / 'toy.py', tmp_path / 'straight', **{**options, 'train_cfg.max_epochs': 7})
    assert rates(after) == rates(straight)
