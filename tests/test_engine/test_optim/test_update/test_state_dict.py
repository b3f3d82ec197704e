"""Runs of mmengine's Runner that are stopped at any moment and go on end in the same bits as runs that are not."""

import copy
import os
import signal

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from processes import run_process
from toy_runs import train as run
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import ComposedOptimWrapper

ITERATIONS = 7
PRINTS = 'hybridcls.engine.optim.stages.stage_states'
UPDATE = dict(
    type='ComposedOptimWrapper',
    optimizer=dict(type='AdamW', lr=0.02),
    accumulative_counts=2,
    clip_grad=dict(max_norm=1.0),
    nonfinite_loss='skip',
    stages=dict(
        sam=dict(type='SAM', rho=0.1, every=2, reuse=True, log=True),
        gc=dict(type='GradientCentralization'),
        lookahead=dict(type='Lookahead', k=3, momentum='pullback'),
    ),
)
BY_ITERATION = {
    'optim_wrapper': dict(UPDATE, _delete_=True),
    'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=100),
    'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', interval=1, by_epoch=False),
    'param_scheduler': [dict(type='CosineAnnealingLR', T_max=ITERATIONS, by_epoch=False)],
    'train_dataloader.sampler.type': 'InfiniteSampler',
}


def differences(one, other, place=''):
    """Where two nested containers differ, to the bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict):
        missing = [f'{place}/{key}' for key in one.keys() ^ other.keys()]
        return missing + [
            found for key in one.keys() & other.keys() for found in differences(one[key], other[key], f'{place}/{key}')
        ]
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        return [
            found
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for found in differences(a, b, f'{place}/{i}')
        ]
    return [] if one == other else [place]


def assert_equal_checkpoints(one, other):
    """Weights, optimizer with stages, schedulers, random state."""
    a, b = (torch.load(path, weights_only=False) for path in (one, other))
    for key in ('state_dict', 'optimizer', 'param_schedulers', 'random_state'):
        assert differences(a[key], b[key], key) == []


@pytest.mark.slow
def test_a_run_that_stops_at_any_iteration_ends_in_the_same_bits(toy_configs, tmp_path):
    """In the middle of Lookahead's cycle, of SAM's, of an accumulation; dropout, augmentation, BatchNorm on the way."""
    run(toy_configs / 'toy.py', tmp_path / 'straight', **BY_ITERATION)
    last = f'iter_{ITERATIONS}.pth'
    for iteration in range(1, ITERATIONS):
        run(
            toy_configs / 'toy.py',
            tmp_path / 'resumed',
            resume=str(tmp_path / 'straight' / f'iter_{iteration}.pth'),
            **BY_ITERATION,
        )
        assert_equal_checkpoints(tmp_path / 'straight' / last, tmp_path / 'resumed' / last)
        os.remove(tmp_path / 'resumed' / last)
    checkpoint = torch.load(tmp_path / 'straight' / last, weights_only=False)
    numbers = checkpoint['optimizer']['param_groups'][0]['composed_update']
    assert numbers['updates'] == 4  # three of two micro-batches, and the last one
    state = checkpoint['optimizer']['state'][0]
    assert {'exp_avg', 'lookahead/slow', 'lookahead/slow_momentum', 'sam/direction'} <= state.keys()
    half = torch.load(tmp_path / 'straight' / 'iter_3.pth', weights_only=False)['optimizer']['state'][0]
    assert 'accumulated_0' in half


def test_epochs_that_end_in_the_middle_of_an_update(toy_configs, tmp_path):
    """Three batches an epoch, two an update."""
    options = {'optim_wrapper': dict(UPDATE, _delete_=True), 'default_hooks.checkpoint.max_keep_ckpts': -1}
    run(toy_configs / 'toy.py', tmp_path / 'straight', **options)
    run(toy_configs / 'toy.py', tmp_path / 'resumed', resume=str(tmp_path / 'straight' / 'epoch_1.pth'), **options)
    assert_equal_checkpoints(tmp_path / 'straight' / 'epoch_3.pth', tmp_path / 'resumed' / 'epoch_3.pth')


class Killer(Hook):
    """The power fails."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def run_to_its_death(config, work_dir):
    run(config, work_dir, custom_hooks=[dict(type=Killer)], **BY_ITERATION)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_in_the_same_bits(toy_configs, tmp_path):
    run(toy_configs / 'toy.py', tmp_path / 'straight', **BY_ITERATION)
    ended = run_process(run_to_its_death, toy_configs / 'toy.py', tmp_path / 'killed')
    assert ended.status == -signal.SIGKILL, ended.output
    last = f'iter_{ITERATIONS}.pth'
    assert not (tmp_path / 'killed' / last).exists()
    run(toy_configs / 'toy.py', tmp_path / 'killed', resume='auto', **BY_ITERATION)
    assert_equal_checkpoints(tmp_path / 'straight' / last, tmp_path / 'killed' / last)


def test_stages_that_come_and_go_are_told(monkeypatch):
    said = []
    monkeypatch.setattr(f'{PRINTS}.print_log', lambda text, *_, **__: said.append(text))
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(lookahead=dict(type='Lookahead')))
    train(net, wrapper, make_batches(1), total=9)
    state = copy.deepcopy(wrapper.state_dict())
    ComposedOptimWrapper(sgd(net)).load_state_dict(copy.deepcopy(state))
    assert 'a state of stages.lookahead (Lookahead), which this run does not have' in said.pop()
    for name in list(state['state']):
        state['state'][name] = {key: value for key, value in state['state'][name].items() if '/' not in key}
    state['param_groups'][0].pop('composed_update')
    other = ComposedOptimWrapper(sgd(net), stages=dict(lookahead=dict(type='Lookahead')))
    other.load_state_dict(state)
    assert 'no state of stages.lookahead (Lookahead); the stage starts now, from' in said.pop()
    assert not said
    train(net, other, make_batches(1), start=1, total=9)
    assert other.stages['lookahead'].slow


STALE = dict(
    lookahead=dict(stages=dict(lookahead=dict(type='Lookahead', k=3))),
    sam=dict(stages=dict(sam=dict(type='SAM', every=3, reuse=True))),
    half_done=dict(stages=dict(lookahead=dict(type='Lookahead', k=3)), accumulative_counts=2),
)


@pytest.mark.parametrize('trained_between', [0, 4], ids=['only passed on', 'trained between'])
@pytest.mark.parametrize('setting', STALE)
def test_the_state_of_older_weights_is_forgotten(monkeypatch, setting, trained_between):
    """mmengine's wrapper passes slow weights on in its checkpoints, however long it trains itself."""
    said = []
    monkeypatch.setattr(f'{PRINTS}.print_log', lambda text, *_, **__: said.append(text))
    batches, net = make_batches(16), make_net(dropout=0.0)
    wrapper = ComposedOptimWrapper(sgd(net), **STALE[setting])
    train(net, wrapper, batches[:5], total=16)
    plain = OptimWrapper(sgd(net))
    plain.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(net, plain, batches[5 : 5 + trained_between], start=5, total=16)
    state = copy.deepcopy(plain.state_dict())
    assert 'composed_update' in state['param_groups'][0]

    resumed, expected = make_net(dropout=0.0), make_net(dropout=0.0)
    back, fresh = (ComposedOptimWrapper(sgd(model), **STALE[setting]) for model in (resumed, expected))
    back.load_state_dict(copy.deepcopy(state))  # before the weights, as FlexibleRunner does
    for model in (resumed, expected):
        model.load_state_dict(net.state_dict())
    momenta = {
        i: {key: value for key, value in entry.items() if key == 'momentum_buffer'}
        for i, entry in state['state'].items()
    }
    fresh.optimizer.load_state_dict(dict(copy.deepcopy(state), state=momenta))
    fresh._updates = back.updates  # SAM's every
    start = 5 + trained_between
    for model, used in ((resumed, back), (expected, fresh)):
        used.initialize_count_status(model, start, 16)
        for batch in batches[start:]:
            model.train_step(batch, used)
    same = all(torch.equal(a, b) for a, b in zip(resumed.parameters(), expected.parameters(), strict=True))
    assert same == bool(trained_between)
    texts = [text for text in said if 'belongs to other weights than those beside it' in text]
    assert len(texts) == bool(trained_between)


def as_in_version_0_1(state):
    """The state of a checkpoint under the names that it had then."""
    state = copy.deepcopy(state)
    numbers = state['param_groups'][0]['composed_update']
    old = dict(skip_update='spoiled', skipped_in_a_row='dropped')  # today's to old spelling
    numbers.update({name: numbers.pop(key) for key, name in old.items()})
    return state


@pytest.mark.parametrize('saved', [copy.deepcopy, as_in_version_0_1])
def test_an_update_that_is_dropped_stays_so_over_a_resume(saved):
    def make():
        net = make_net(dropout=0.0)
        return net, ComposedOptimWrapper(sgd(net), nonfinite_loss='skip', accumulative_counts=2)

    batches = make_batches(4)
    batches[0]['inputs'][0] = float('nan')
    straight, wrapper = make()
    train(straight, wrapper, batches)
    assert wrapper.updates == 1
    net, wrapper = make()
    train(net, wrapper, batches[:1], total=4)
    resumed, other = make()
    resumed.load_state_dict(net.state_dict())
    other.load_state_dict(saved(wrapper.state_dict()))
    assert other.nonfinite_losses.skipped_in_a_row == 1
    train(resumed, other, batches[1:], start=1, total=4)
    assert_same(resumed, straight)


def test_gradients_of_another_number_of_processes_become_their_mean():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), accumulative_counts=2)
    state = copy.deepcopy(wrapper.state_dict())
    weight = net.conv.weight
    position = [name for name, _ in net.named_parameters()].index('conv.weight')
    state['state'][position] = dict(accumulated_0=torch.ones_like(weight), accumulated_1=3 * torch.ones_like(weight))
    state['state'][position + 1] = dict(accumulated_whole=5 * torch.ones_like(net.conv.bias))  # of rows of both
    wrapper.load_state_dict(state)
    assert torch.equal(weight.grad, 2 * torch.ones_like(weight))
    assert torch.equal(net.conv.bias.grad, 5 * torch.ones_like(net.conv.bias))


@pytest.mark.parametrize('done', [1, 2, 3])
def test_a_checkpoint_of_version_0_1_resumes_to_the_same_bits(done):
    """In the middle of an accumulation, after an ascent and after an update with its direction."""
    stages = dict(
        sam=dict(type='SAM', rho=0.1, every=2, reuse=True), lookahead=dict(type='Lookahead', k=2, momentum='pullback')
    )

    def make():
        net = make_net(dropout=0.0)
        return net, ComposedOptimWrapper(sgd(net), stages=stages, accumulative_counts=2, nonfinite_loss='skip')

    batches = make_batches(8)
    straight, wrapper = make()
    train(straight, wrapper, batches)
    net, wrapper = make()
    train(net, wrapper, batches[: 2 * done - 1], total=8)
    resumed, other = make()
    resumed.load_state_dict(net.state_dict())
    other.load_state_dict(as_in_version_0_1(wrapper.state_dict()))
    assert other.updates == done - 1
    train(resumed, other, batches[2 * done - 1 :], start=2 * done - 1, total=8)
    assert_same(resumed, straight)
