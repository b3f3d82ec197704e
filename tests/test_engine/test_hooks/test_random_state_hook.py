"""Random numbers and batches of resumed runs, against runs that were not stopped."""

import random

import numpy as np
import pytest
import torch
from at_night import at_night
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from toy_runs import train

from hybridcls.engine.hooks.random_state_hook import seed_worker
from hybridcls.registry import DATA_SAMPLERS


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1), np.random.randn()  # noqa: NPY002


def test_workers_are_seeded_by_epoch_and_by_process(monkeypatch):
    drawn = set()
    for rank in ('0', '1'):
        monkeypatch.setenv('RANK', rank)
        for base_seed in (5, 6):  # torch draws another one in each epoch
            torch.manual_seed(base_seed)
            seed_worker(0)
            first = draw()
            torch.manual_seed(base_seed)
            seed_worker(0)
            assert draw() == first
            drawn.add(first)
    assert len(drawn) == 4
    assert len({numbers[0] for numbers in drawn}) == len({numbers[1] for numbers in drawn}) == 4


def stop(config, work_dir, epoch=None, iteration=None, **options):
    with pytest.raises(Exception) as caught:
        train(config, work_dir, custom_hooks=[dict(type='StopHook', epoch=epoch, iteration=iteration)], **options)
    assert caught.type.__name__ == 'Stopped'


def assert_equal_runs(one, other):
    """Weights, optimizer and the next random numbers, bit for bit."""
    a, b = (torch.load(path, weights_only=False) for path in (one, other))
    torch.testing.assert_close(a['state_dict'], b['state_dict'], rtol=0, atol=0)
    torch.testing.assert_close(a['optimizer']['state'], b['optimizer']['state'], rtol=0, atol=0)
    assert a['optimizer']['param_groups'] == b['optimizer']['param_groups']
    assert torch.equal(a['random_state']['states'][0]['torch'], b['random_state']['states'][0]['torch'])
    assert torch.equal(a['random_state']['states'][0]['numpy'][1], b['random_state']['states'][0]['numpy'][1])


WORKERS = {
    'no workers': {},
    'workers that live on': {'train_dataloader.num_workers': 2},
    'workers for an epoch': {'train_dataloader.num_workers': 1, 'train_dataloader.persistent_workers': False},
}


@pytest.mark.parametrize('workers', WORKERS)
def test_a_run_that_was_stopped_ends_in_the_same_bits(toy_configs, tmp_path, workers):
    """Dropout, augmentation by all three generators, a validation that draws numbers too."""
    options = WORKERS[workers]
    train(toy_configs / 'toy.py', tmp_path / 'straight', **options)
    stop(toy_configs / 'toy.py', tmp_path / 'stopped', epoch=2, **options)
    train(toy_configs / 'toy.py', tmp_path / 'stopped', resume='auto', **options)
    assert_equal_runs(tmp_path / 'straight' / 'epoch_3.pth', tmp_path / 'stopped' / 'epoch_3.pth')


class Draw(Hook):
    """Draws random numbers as training begins, as one that samples batches to look at would."""

    priority = 'LOW'

    def before_train(self, runner):
        draw()


def test_it_restores_after_hooks_that_draw_numbers_as_training_begins(toy_configs, tmp_path):
    hooks = [dict(type='RandomStateHook'), dict(type=Draw)]
    train(toy_configs / 'toy.py', tmp_path / 'straight', custom_hooks=hooks)
    with pytest.raises(Exception) as caught:
        train(toy_configs / 'toy.py', tmp_path / 'stopped', custom_hooks=[*hooks, dict(type='StopHook', epoch=2)])
    assert caught.type.__name__ == 'Stopped'
    train(toy_configs / 'toy.py', tmp_path / 'stopped', resume='auto', custom_hooks=hooks)
    assert_equal_runs(tmp_path / 'straight' / 'epoch_3.pth', tmp_path / 'stopped' / 'epoch_3.pth')


def test_checkpoints_written_after_a_validation_have_the_state_from_before_it(toy_configs, tmp_path):
    """The best one, and that of the epoch, which mmengine writes again to tell it of the best one."""
    options = {'train_cfg.max_epochs': 1}
    train(toy_configs / 'toy.py', tmp_path / 'with', **options)
    train(
        toy_configs / 'toy.py', tmp_path / 'without', val_cfg=None, val_dataloader=None, val_evaluator=None, **options
    )
    expected, epoch, best = (
        torch.load(tmp_path / name, weights_only=False)['random_state']['states'][0]['torch']
        for name in ('without/epoch_1.pth', 'with/epoch_1.pth', 'with/best_toy_top1_epoch_1.pth')
    )
    assert torch.equal(epoch, expected)
    assert torch.equal(best, expected)


def test_training_does_not_depend_on_how_often_one_validates(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'often')
    train(toy_configs / 'toy.py', tmp_path / 'never', val_cfg=None, val_dataloader=None, val_evaluator=None)
    assert_equal_runs(tmp_path / 'often' / 'epoch_3.pth', tmp_path / 'never' / 'epoch_3.pth')


BY_ITERATION = dict(_delete_=True, type='CheckpointHook', interval=1, by_epoch=False)


@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize('iteration', at_night([2, 3, 4], 4))
def test_a_run_stopped_within_an_epoch_goes_on_with_its_next_batch(toy_configs, tmp_path, workers, iteration):
    """Epochs have three batches: 3 is between the last update of an epoch and its end."""
    options = {**WORKERS[workers], 'default_hooks.checkpoint': BY_ITERATION, 'train_cfg.max_epochs': 2}
    train(toy_configs / 'toy.py', tmp_path / 'straight', **options)
    stop(toy_configs / 'toy.py', tmp_path / 'stopped', iteration=iteration, **options)
    runner = train(toy_configs / 'toy.py', tmp_path / 'stopped', resume='auto', **options)
    assert (runner.epoch, runner.iter) == (2, 6)
    assert_equal_runs(tmp_path / 'straight' / 'iter_6.pth', tmp_path / 'stopped' / 'iter_6.pth')


def test_what_is_done_of_an_epoch_is_not_read_again(toy_configs, tmp_path, toy_plugin, monkeypatch):
    options = {'default_hooks.checkpoint': BY_ITERATION, 'train_cfg.max_epochs': 1, 'val_cfg': None}
    options.update(val_dataloader=None, val_evaluator=None)
    stop(toy_configs / 'toy.py', tmp_path / 'w', iteration=2, **options)
    read, prepare = [], toy_plugin.ToyPoints.prepare_data
    monkeypatch.setattr(toy_plugin.ToyPoints, 'prepare_data', lambda self, idx: read.append(idx) or prepare(self, idx))
    numbers, run_iter = [], EpochBasedTrainLoop.run_iter
    monkeypatch.setattr(
        EpochBasedTrainLoop, 'run_iter', lambda self, idx, batch: numbers.append(idx) or run_iter(self, idx, batch)
    )
    train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto', **options)
    assert len(read) == 8
    assert numbers == [2]


class LikeTorchs(torch.utils.data.RandomSampler):
    """A sampler that draws its order from the random state of the process, as torch's do."""

    def __init__(self, dataset, seed=None, shuffle=True):
        super().__init__(dataset)


HARD = {
    'SAM and Lookahead in the middle of an accumulation': {
        'optim_wrapper': dict(
            _delete_=True,
            type='ComposedOptimWrapper',
            optimizer=dict(type='AdamW', lr=0.01),
            stages=dict(sam=dict(type='SAM', rho=0.05), lookahead=dict(type='Lookahead', k=2)),
            accumulative_counts=2,
        )
    },
    'PKSampler': {'train_dataloader.batch_sampler': dict(type='PKSampler', images_per_class=4)},
    'the order from the state of the process': {
        'train_dataloader.sampler': dict(_delete_=True, type='LikeTorchs'),
    },
    'no seed': {'randomness.seed': None},
    'EMA': {'custom_hooks': [dict(type='EMAHook', momentum=0.1)]},
}


@pytest.mark.parametrize('what', HARD)
@pytest.mark.parametrize('workers', at_night([0, 2], 0))
def test_what_else_may_be_stopped_within_an_epoch(toy_configs, tmp_path, toy_plugin, monkeypatch, what, workers):
    DATA_SAMPLERS.register_module(module=LikeTorchs, force=True)
    monkeypatch.setattr(toy_plugin.ToyPoints, 'get_gt_labels', lambda self: [i % 2 for i in range(24)], raising=False)
    options = {**HARD[what], 'default_hooks.checkpoint': BY_ITERATION, 'train_cfg.max_epochs': 2}
    options['train_dataloader.num_workers'] = workers
    hooks = options.pop('custom_hooks', [])
    (toy_configs / 'hard.py').write_text(f"_base_ = 'toy.py'\ncustom_hooks = {hooks}\n")
    (toy_configs / 'stop.py').write_text(
        f"_base_ = 'toy.py'\ncustom_hooks = {[*hooks, dict(type='StopHook', iteration=5)]}\n"
    )
    with pytest.raises(toy_plugin.Stopped):
        train(toy_configs / 'stop.py', tmp_path / 'stopped', **options)
    options['randomness.seed'] = torch.load(tmp_path / 'stopped' / 'iter_5.pth', weights_only=False)['meta']['seed']
    train(toy_configs / 'hard.py', tmp_path / 'straight', **options)
    if what == 'no seed':
        options['randomness.seed'] = None
    train(toy_configs / 'hard.py', tmp_path / 'stopped', resume='auto', **options)
    assert_equal_runs(tmp_path / 'straight' / 'iter_6.pth', tmp_path / 'stopped' / 'iter_6.pth')


@pytest.mark.parametrize('workers', at_night([0, 2], 0))
@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_by_iterations(toy_configs, tmp_path, workers, sampler):
    """With a sampler that ends, a pass has three batches: the seventh is the first of the third pass."""
    options = {
        'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=8, val_interval=3),
        'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', interval=7, by_epoch=False),
        'param_scheduler': [],
        'train_dataloader.sampler.type': sampler,
        'train_dataloader.num_workers': workers,
    }
    train(toy_configs / 'toy.py', tmp_path / 'straight', **options)
    stop(toy_configs / 'toy.py', tmp_path / 'stopped', iteration=7, **options)
    train(toy_configs / 'toy.py', tmp_path / 'stopped', resume='auto', **options)
    assert_equal_runs(tmp_path / 'straight' / 'iter_8.pth', tmp_path / 'stopped' / 'iter_8.pth')


def test_workers_read_the_same_however_many_they_are(toy_configs, tmp_path):
    for workers in (1, 2):
        options = {'train_dataloader.num_workers': workers, 'train_cfg.max_epochs': 2}
        train(toy_configs / 'toy.py', tmp_path / str(workers), **options)
    assert_equal_runs(tmp_path / '1' / 'epoch_2.pth', tmp_path / '2' / 'epoch_2.pth')


def test_without_the_hook_the_runs_differ(toy_configs, tmp_path, monkeypatch):
    """The oracle of the tests above can fail."""
    monkeypatch.setattr('hybridcls.engine.training._DEFAULT_HOOKS', ())
    train(toy_configs / 'toy.py', tmp_path / 'straight')
    stop(toy_configs / 'toy.py', tmp_path / 'stopped', epoch=2)
    train(toy_configs / 'toy.py', tmp_path / 'stopped', resume='auto')
    one, other = (
        torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False)['state_dict']['head.weight']
        for name in ('straight', 'stopped')
    )
    assert not torch.equal(one, other)


def test_a_checkpoint_from_more_processes_is_used_without_its_states(toy_configs, tmp_path):
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'train_cfg.max_epochs': 1})
    path = tmp_path / 'w' / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['random_state'] = dict(world_size=4, states=checkpoint['random_state']['states'] * 4)
    torch.save(checkpoint, path)
    assert train(toy_configs / 'toy.py', tmp_path / 'w', resume='auto').epoch == 3


def test_the_checkpoint_of_another_hook_has_the_states_too(toy_configs, tmp_path):
    hook = dict(_delete_=True, type='mmengine.CheckpointHook', interval=1)
    train(toy_configs / 'toy.py', tmp_path / 'w', **{'default_hooks.checkpoint': hook, 'train_cfg.max_epochs': 1})
    assert torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=False)['random_state']['world_size'] == 1
