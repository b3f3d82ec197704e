"""A run that a signal ends, started again, against the same run without a stop: to the bit."""

import os
import signal
import sys
import time

import pytest
from at_night import at_night
from processes import TOOLS, run_process, run_processes
from test_random_state_hook import assert_equal_runs
from toy_runs import train

from hybridcls.engine import TrainOptions, load_config, run_chain
from hybridcls.engine.hooks import PreemptionHook
from hybridcls.engine.runner.signals import Preempted


def with_signal(folder, hooks=(), **when):
    """``signalled.py`` and, with the same other hooks, ``quiet.py``."""
    for name, more in (('quiet', []), ('signalled', [dict(type='SignalHook', **when)])):
        (folder / f'{name}.py').write_text(f"_base_ = 'toy.py'\ncustom_hooks = {[*hooks, *more]}\n")
    return folder / 'quiet.py', folder / 'signalled.py'


def preempted(config, work_dir, **options):
    with pytest.raises(Preempted) as ended:
        train(config, work_dir, **options)
    assert ended.value.code == 75


def files(folder):
    return sorted(path.name for path in folder.glob('*.pth') if not path.name.startswith('best_'))


EMA = [dict(type='EMAHook', momentum=0.1)]
BOTH_EMA = [dict(type='mmpretrain.EMAHook', momentum=0.1, evaluate_on_origin=True)]
UPDATE = dict(
    _delete_=True,
    type='ComposedOptimWrapper',
    optimizer=dict(type='AdamW', lr=0.01),
    stages=dict(sam=dict(type='SAM', rho=0.05), lookahead=dict(type='Lookahead', k=2)),
)
CASES = {
    'SIGTERM': ({}, [], dict(iteration=4), 'iter_5.pth'),
    'SIGUSR1': ({}, [], dict(iteration=4, name='SIGUSR1'), 'iter_5.pth'),
    'the last update of an epoch': ({}, [], dict(iteration=5), 'iter_6.pth'),
    'workers': ({'train_dataloader.num_workers': 2}, [], dict(iteration=4), 'iter_5.pth'),
    'an update of two batches': (
        {'optim_wrapper': {**UPDATE, 'accumulative_counts': 2}}, [], dict(iteration=4), 'iter_6.pth'
    ),
    'SAM, SlowWeights': ({'optim_wrapper': UPDATE}, [dict(type='SlowWeightsHook')], dict(iteration=3), 'iter_4.pth'),
    'EMA': ({}, EMA, dict(iteration=4), 'iter_5.pth'),
    'a validation': ({}, [], dict(iteration=6, validation=True), 'epoch_2.pth'),
    'a validation, EMA, no checkpoint': (
        {'default_hooks.checkpoint.interval': 3}, EMA, dict(iteration=6, validation=True), 'iter_6.pth'
    ),
    'a validation of both weights': (
        {'default_hooks.checkpoint.interval': 3}, BOTH_EMA, dict(iteration=6, validation=True), 'iter_6.pth'
    ),
    'a validation, SlowWeights': (
        {'default_hooks.checkpoint.interval': 3, 'optim_wrapper': UPDATE, 'train_dataloader.dataset.length': 20},
        [dict(type='SlowWeightsHook')], dict(iteration=6, validation=True), 'iter_6.pth',
    ),
    'iterations': (
        {
            'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9, val_interval=3),
            'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', interval=3, by_epoch=False),
            'param_scheduler': [],
        },
        [], dict(iteration=4), 'iter_5.pth',
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    'what', at_night(CASES, 'SIGUSR1', 'EMA', 'a validation', 'a validation of both weights', 'SAM, SlowWeights')
)
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bits(toy_configs, tmp_path, what):
    options, hooks, when, last = CASES[what]
    quiet, signalled = with_signal(toy_configs, hooks, **when)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    preempted(signalled, tmp_path / 'w', **options)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    assert (tmp_path / 'w' / 'last_checkpoint').read_text() == str(tmp_path / 'w' / last)
    assert (tmp_path / 'w' / last).exists()
    train(quiet, tmp_path / 'w', resume='auto', **options)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before
    train(quiet, tmp_path / 'straight', **options)
    end = files(tmp_path / 'straight')[-1]
    assert_equal_runs(tmp_path / 'straight' / end, tmp_path / 'w' / end)
    assert files(tmp_path / 'w') == files(tmp_path / 'straight'), 'what the signal left is replaced'


def test_preempted_twice_leaves_one_checkpoint(toy_configs, tmp_path):
    _, signalled = with_signal(toy_configs, iteration=1)
    preempted(signalled, tmp_path / 'w')
    _, signalled = with_signal(toy_configs, iteration=2)
    with pytest.raises(Preempted):
        train(signalled, tmp_path / 'w', resume='auto')
    assert files(tmp_path / 'w') == ['iter_3.pth']


def test_a_chain_goes_on_in_its_phase(toy_configs, tmp_path):
    chain, second = toy_configs / 'chain.py', toy_configs / 'second.py'
    quiet = second.read_text()
    second.write_text(quiet + "custom_hooks = [dict(type='SignalHook', iteration=1)]\n")
    with pytest.raises(Preempted):
        run_chain(load_config(chain), TrainOptions(), str(tmp_path / 'w'))
    assert files(tmp_path / 'w/2_two') == ['iter_2.pth']
    with pytest.MonkeyPatch.context() as patch:  # the same command, in a process that gets no signal
        patch.setattr(os, 'kill', lambda *args: None)
        run_chain(load_config(chain), TrainOptions(), str(tmp_path / 'w'))
        run_chain(load_config(chain), TrainOptions(), str(tmp_path / 'straight'))
    last = '2_two/epoch_2.pth'
    assert_equal_runs(tmp_path / 'straight' / last, tmp_path / 'w' / last)


def test_ctrl_c_saves_and_is_a_keyboard_interrupt(toy_configs, tmp_path):
    quiet, signalled = with_signal(toy_configs, iteration=4, name='SIGINT')
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(signalled, tmp_path / 'w')
    assert signal.getsignal(signal.SIGINT) is before
    assert files(tmp_path / 'w')[-1] == 'iter_5.pth'
    train(quiet, tmp_path / 'w', resume='auto')
    train(quiet, tmp_path / 'whole')
    assert_equal_runs(tmp_path / 'whole' / 'epoch_3.pth', tmp_path / 'w' / 'epoch_3.pth')


def test_without_our_checkpoint_hook_signals_are_left_alone(toy_configs, tmp_path):
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        _, signalled = with_signal(toy_configs, iteration=1, name='SIGUSR1')
        train(signalled, tmp_path / 'w', **{'default_hooks.checkpoint': None, 'train_cfg.max_epochs': 1})
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1]


def test_signals_are_restored_when_a_training_fails(toy_configs, tmp_path, toy_plugin):
    (toy_configs / 'stop.py').write_text("_base_ = 'toy.py'\ncustom_hooks = [dict(type='StopHook', iteration=1)]\n")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(toy_plugin.Stopped):
        train(toy_configs / 'stop.py', tmp_path / 'w')
    assert signal.getsignal(signal.SIGTERM) is before


def train_tool(folder, *arguments):
    """tools/train.py in a process group of its own, as Slurm starts it."""
    import runpy

    os.setpgid(0, 0)
    os.chdir(folder)
    sys.argv = [str(TOOLS / 'train.py'), *map(str, arguments)]
    runpy.run_path(sys.argv[0], run_name='__main__')


@pytest.mark.parametrize(
    'name', [pytest.param('SIGTERM', marks=pytest.mark.slow), pytest.param('SIGUSR1', marks=pytest.mark.nightly)]
)
def test_a_signal_to_the_whole_group_spares_the_workers(toy_configs, tmp_path, name):
    _, signalled = with_signal(toy_configs, iteration=4, name=name, group=True)
    workers = ['train_dataloader.num_workers=2', 'val_dataloader.num_workers=2']
    command = (tmp_path, signalled, '--work-dir', tmp_path / 'w', '--cfg-options', *workers)
    began = time.time()
    ended = run_process(train_tool, *command)
    after = time.time()
    assert ended.status == 75, ended.output
    assert files(tmp_path / 'w') == ['epoch_1.pth', 'iter_5.pth']
    saved = (tmp_path / 'w' / 'iter_5.pth').stat().st_mtime
    assert after - saved < saved - began + 3, 'workers are waited for'  # a busy machine is slow before it saves, too
    assert 'Traceback' not in ended.output


def two_processes(rank, quiet, signalled, folder):
    train(quiet, folder / 'straight', launcher='pytorch')
    preempted(signalled, folder / 'w', launcher='pytorch')
    train(quiet, folder / 'w', resume='auto', launcher='pytorch')


@pytest.mark.dist
@pytest.mark.parametrize(
    'when',
    [
        pytest.param(dict(iteration=1, rank=1), marks=pytest.mark.nightly, id='training'),
        pytest.param(dict(iteration=4, rank=1, validation=True), marks=pytest.mark.slow, id='validation'),
    ],
)
def test_all_processes_save_at_the_same_iteration(toy_configs, tmp_path, when):
    """Four batches in two validations; the answer comes with the next batch after the signal."""
    quiet, signalled = with_signal(toy_configs, **when)
    run_processes(two_processes, quiet, signalled, tmp_path)
    assert_equal_runs(tmp_path / 'straight' / 'epoch_3.pth', tmp_path / 'w' / 'epoch_3.pth')


def test_what_is_asked_of_the_hook():
    with pytest.raises(ValueError, match=r"expected signals to be one of .*, got 'SIGKILL'"):
        PreemptionHook(signals=['SIGKILL'])
    with pytest.raises(ValueError, match='exit_status'):
        PreemptionHook(exit_status=256)
