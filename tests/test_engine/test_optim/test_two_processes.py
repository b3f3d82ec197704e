"""Two processes over gloo: DDP, FSDP and FSDP2; one pair of processes does all the works of this file."""

import copy
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel, MMDistributedDataParallel
from processes import run_processes
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from update_toys import sgd, train

import hybridcls.engine  # noqa: F401 (registers)
from hybridcls.compat.torch import is_dtensor
from hybridcls.engine.optim import ComposedOptimWrapper

STEPS = 6


class Net(BaseModel):
    """No BatchNorm, whose statistics are of one process; a frozen part, and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Linear(3, 6)
        self.second = nn.Linear(6, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.to(torch.float64)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=nn.functional.cross_entropy(self.frozen(self.second(self.first(inputs).tanh())), data_samples))


def batches(count=STEPS, size=8):
    generator = torch.Generator().manual_seed(11)
    return [
        dict(
            inputs=torch.randn(size, 3, generator=generator, dtype=torch.float64),
            data_samples=torch.randint(0, 4, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def shares(rank, count=STEPS):
    return [{name: value.chunk(2)[rank] for name, value in batch.items()} for batch in batches(count)]


SETTINGS = dict(
    plain=dict(),
    sam=dict(stages=dict(sam=dict(type='SAM', rho=0.5))),
    asam=dict(stages=dict(sam=dict(type='SAM', rho=0.5, adaptive=True)), clip_grad=dict(max_norm=0.1)),
    msam=dict(
        stages=dict(msam=dict(type='MSAM', rho=0.5), lookahead=dict(type='Lookahead', k=2)), accumulative_counts=2
    ),
    friendly=dict(stages=dict(sam=dict(type='FriendlySAM', rho=0.5, lmbda=0.6)), accumulative_counts=2),
    reuse=dict(
        stages=dict(
            sam=dict(type='SAM', rho=0.5, every=2, reuse=True),
            lookahead=dict(type='Lookahead', k=2, momentum='pullback'),
        ),
        clip_grad=dict(max_norm=0.1),
    ),
    all=dict(
        stages=dict(
            sam=dict(type='SAM', rho=0.5), gc=dict(type='GradientCentralization'), lookahead=dict(type='Lookahead', k=2)
        ),
        accumulative_counts=2,
        clip_grad=dict(max_norm=0.1),
    ),
)


def weights(net):
    return {name: param.detach().clone() for name, param in net.named_parameters()}


def one_process(setting):
    net = Net()
    train(net, ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS[setting])), batches())
    return weights(net)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What the works below gave, by work and process: all in two processes, whose start costs more than the work."""
    folder = tmp_path_factory.mktemp('two_processes')
    run_processes(all_works, folder)
    return {work: [torch.load(folder / f'{work}_{rank}.pt', weights_only=False) for rank in range(2)] for work in WORKS}


def results_of(work, results):
    if work not in results:
        pytest.skip(f'torch {torch.__version__} has no FSDP on the CPU')
    return results[work]


def assert_close(found, expected, atol=1e-10):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=lambda text, name=name: f'{name}: {text}')


# ---------------------------------------------------------------------- DDP


def ddp(net, **kwargs):
    return MMDistributedDataParallel(net, device_ids=None, **kwargs)


def counting(sent, bucket):
    """A communication hook of DDP, which averages as DDP does and notes each bucket."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    sent.append(bucket.buffer().numel())
    return allreduce_hook(None, bucket)


@contextmanager
def counted_all_reduces():
    """List what is reduced apart from DDP's buckets."""
    plain, found = dist.all_reduce, []

    def noted(tensor, *args, **kwargs):
        if not kwargs.get('async_op'):
            found.append(tensor.numel())
        return plain(tensor, *args, **kwargs)

    dist.all_reduce = noted
    try:
        yield found
    finally:
        dist.all_reduce = plain


def work_ddp(rank, folder):
    """All settings; per-process ascents; a stop within an accumulation; a non-finite loss on one process."""
    result = {}
    for name, setting in SETTINGS.items():
        for view in (False, True):
            net = Net()
            wrapped = ddp(net, gradient_as_bucket_view=view)
            train(wrapped, ComposedOptimWrapper(sgd(net), **copy.deepcopy(setting)), shares(rank))
            result[name, view] = weights(net)

    net = Net()
    alone = dict(stages=dict(sam=dict(type='SAM', rho=0.5, sync=False)))
    train(ddp(net), ComposedOptimWrapper(sgd(net), **alone), shares(rank))
    result['alone'] = weights(net)

    for name in ('plain', 'msam'):  # one process averages for an update, not for each micro-batch
        net, sent = Net(), []
        wrapped = ddp(net)
        wrapped.register_comm_hook(sent, counting)
        keys = {**copy.deepcopy(SETTINGS[name]), 'accumulative_counts': 3}
        with counted_all_reduces() as others:
            wrapper = ComposedOptimWrapper(sgd(net), **keys)
            train(wrapped, wrapper, shares(rank))
        result['sent', name] = len(sent), wrapper.updates, len(others)

    def make():
        net = Net()
        return net, ddp(net), ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS['all']))

    net, wrapped, wrapper = make()
    train(wrapped, wrapper, shares(rank)[:3], total=STEPS)
    wrapper.gather_for_checkpoint()
    # Only the first process writes a checkpoint.
    state = [copy.deepcopy((net.state_dict(), wrapper.state_dict())) if rank == 0 else None]
    dist.broadcast_object_list(state)
    resumed, wrapped, other = make()
    resumed.load_state_dict(state[0][0])
    other.load_state_dict(state[0][1])
    train(wrapped, other, shares(rank)[3:], start=3, total=STEPS)
    result['resumed'] = weights(resumed)

    net = Net()
    own = shares(rank)
    if rank == 1:
        own[1]['inputs'][0] = float('nan')
    wrapper = ComposedOptimWrapper(sgd(net), nonfinite_loss='skip', **copy.deepcopy(SETTINGS['sam']))
    train(ddp(net), wrapper, own)
    result['skipped'] = weights(net)
    net = Net()
    try:
        train(ddp(net), ComposedOptimWrapper(sgd(net)), own)
    except FloatingPointError as error:
        result['message'] = str(error)
    return result


@pytest.mark.dist
@pytest.mark.slow
def test_ddp(results):
    results = results['ddp']
    for key in results[0]:
        if key != 'message' and key[0] != 'sent':  # same weights on both, to the bit
            assert all(torch.equal(results[0][key][name], results[1][key][name]) for name in results[0][key]), key
    for name in SETTINGS:
        expected = one_process(name)
        for view in (False, True):
            assert_close(results[0][name, view], expected)
    for name in ('plain', 'msam'):  # a gradient goes around once an update; one number a micro-batch tells of NaN
        assert results[0]['sent', name] == results[1]['sent', name] == (STEPS // 3, STEPS // 3, STEPS)
    assert all(torch.equal(results[0]['resumed'][name], value) for name, value in results[0]['all', False].items())

    # Each process ascends by its own part: the mean of two gradients, each at its own worst point.
    net = Net()
    optimizer, params = sgd(net), [param for param in net.parameters() if param.requires_grad]
    for batch in batches():
        total = [torch.zeros_like(param) for param in params]
        for rank in range(2):
            own = {name: value.chunk(2)[rank] for name, value in batch.items()}
            grads = torch.autograd.grad(net(**own)['loss'], params)
            norm = torch.stack([grad.norm() for grad in grads]).norm()
            before = [param.detach().clone() for param in params]
            with torch.no_grad():
                torch._foreach_add_(params, [0.5 * grad / norm for grad in grads])
            torch._foreach_add_(total, torch.autograd.grad(net(**own)['loss'], params), alpha=0.5)
            with torch.no_grad():
                torch._foreach_copy_(params, before)
        for param, grad in zip(params, total, strict=True):
            param.grad = grad
        optimizer.step()
    assert_close(results[0]['alone'], weights(net))
    assert (results[0]['alone']['first.weight'] - results[0]['sam', False]['first.weight']).abs().max() > 1e-4

    net = Net()
    kept = batches()[:1] + batches()[2:]
    train(net, ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS['sam'])), kept)
    assert_close(results[0]['skipped'], weights(net))
    assert 'iteration 2: a loss of another process is not finite' in results[0]['message']
    assert 'iteration 2: loss = nan' in results[1]['message']


# ---------------------------------------------------------------------- FSDP2


def fsdp2(net):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh('cpu', (2,))
    for part in (net.first, net.second):
        fully_shard(part, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def gathered(value):
    if isinstance(value, torch.Tensor):
        return value.full_tensor() if is_dtensor(value) else value
    if isinstance(value, dict):
        return {key: gathered(part) for key, part in value.items()}
    return value


def work_fsdp2(rank, folder):
    result = {}
    for name, setting in SETTINGS.items():
        net = fsdp2(Net())
        wrapper = ComposedOptimWrapper(sgd(net), **copy.deepcopy(setting))
        train(net, wrapper, shares(rank))
        result[name] = gathered(weights(net))
    slow = wrapper.stages['lookahead'].slow
    result['local'] = sum(value.to_local().numel() for value in slow.values())
    result['whole'] = sum(value.numel() for value in slow.values())
    result['norm'] = float(wrapper.message_hub.get_scalar('train/grad_norm').data[0][-1])

    # gather, shard again, go on
    net = fsdp2(Net())
    wrapper = ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS['reuse']))
    train(net, wrapper, shares(rank)[:3], total=STEPS)
    model_state, state = gathered(net.state_dict()), gathered(wrapper.state_dict())
    plain = Net()
    plain.load_state_dict(model_state)
    net = fsdp2(plain)
    other = ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS['reuse']))
    other.load_state_dict(state)
    train(net, other, shares(rank)[3:], start=3, total=STEPS)
    result['resumed'] = gathered(weights(net))
    result['state'] = state
    return result


@pytest.mark.dist
@pytest.mark.slow
def test_fsdp2(results):
    results = results_of('fsdp2', results)
    for name in SETTINGS:
        assert_close(results[0][name], one_process(name))
    assert results[0]['local'] + results[1]['local'] == results[0]['whole']
    assert max(results[0]['local'], results[1]['local']) < results[0]['whole']
    assert results[0]['norm'] == pytest.approx(results[1]['norm'])
    assert all(torch.equal(results[0]['resumed'][name], value) for name, value in results[0]['reuse'].items())
    # One process goes on from the gathered state.
    net = Net()
    wrapper = ComposedOptimWrapper(sgd(net), **copy.deepcopy(SETTINGS['reuse']))
    train(net, wrapper, batches()[:3], total=STEPS)
    for position, entry in results[0]['state']['state'].items():
        own = wrapper.state_dict()['state'][position]
        assert own.keys() == entry.keys()
        for key, value in entry.items():
            torch.testing.assert_close(value, own[key], rtol=0, atol=1e-10, msg=lambda text, key=key: f'{key}: {text}')


# ---------------------------------------------------------------------- FSDP through FlexibleRunner


class Points(torch.utils.data.Dataset):
    """The batches above, point by point."""

    def __len__(self):
        return 8 * STEPS

    def __getitem__(self, index):
        return {name: value[index % 8] for name, value in batches()[index // 8].items()}


def copy_what_is_gathered(monkey):
    """torch gathers each kind of state into one and the same buffer, and moves it to the CPU before the next one
    comes; of a model that is on the CPU already, all kinds would be views of the last."""
    from torch.distributed.fsdp import _optim_utils

    unflatten = _optim_utils._unflatten_orig_param_states

    def with_copies(info, output_states, state_name, *args):
        unflatten(info, output_states, state_name, *args)
        for states in output_states.values():
            if state_name in states:
                states[state_name] = states[state_name].clone()

    monkey.setattr(_optim_utils, '_unflatten_orig_param_states', with_copies)


def flexible_run(setting, folder, resume=None):
    from mmengine.runner import FlexibleRunner

    wrap = dict(type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=20)
    runner = FlexibleRunner(
        model=Net(),
        work_dir=folder,
        experiment_name=folder.replace('/', '_'),
        log_level='ERROR',
        strategy=dict(
            type='hybridcls.FSDPStrategy',
            state_dict_cfg='full',
            model_wrapper=dict(
                type='MMFullyShardedDataParallel',
                use_orig_params=True,
                device_id=torch.device('cpu'),
                auto_wrap_policy=wrap,
            ),
        ),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Points(),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='InfiniteSampler', shuffle=False),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=100),
        optim_wrapper=dict(
            type='hybridcls.ComposedOptimWrapper',
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
            **copy.deepcopy(SETTINGS[setting]),
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)),
        resume=resume is not None,
        load_from=resume,
    )
    runner.train()
    dist.barrier()
    return torch.load(f'{folder}/iter_{STEPS}.pth', weights_only=False), runner


def work_fsdp(rank, folder):
    os.environ['LOCAL_RANK'] = str(rank)
    result = {}
    with pytest.MonkeyPatch.context() as monkey:
        copy_what_is_gathered(monkey)
        for setting in ('asam', 'reuse'):
            checkpoint, runner = flexible_run(setting, f'{folder}/{setting}')
            resumed, _ = flexible_run(setting, f'{folder}/{setting}_resumed', f'{folder}/{setting}/iter_3.pth')
            result[setting] = checkpoint['state_dict'], checkpoint['optimizer']
            result[f'{setting}_resumed'] = resumed['state_dict'], resumed['optimizer']
    result['local'] = sum(value.numel() for value in runner.optim_wrapper.stages['lookahead'].slow.values())
    return result


@pytest.mark.dist
@pytest.mark.slow
def test_fsdp(results):
    """FlexibleRunner: norms are global, state is sharded, gathered into the checkpoint and sharded again."""
    results = results_of('fsdp', results)
    for name in ('asam', 'reuse'):
        weights_of, optimizer = results[0][name]
        assert_close(weights_of, one_process(name))
        resumed, optimizer_resumed = results[0][f'{name}_resumed']
        assert all(torch.equal(resumed[key], value) for key, value in weights_of.items())
        for key, states in optimizer['state'].items():
            assert all(torch.equal(optimizer_resumed['state'][key][kind], value) for kind, value in states.items())
    state = results[0]['reuse'][1]['state']['second.weight']
    assert {kind: tuple(value.shape) for kind, value in state.items()} == {
        kind: (4, 6) for kind in ('momentum_buffer', 'lookahead/slow', 'lookahead/slow_momentum', 'sam/direction')
    }
    whole = sum(param.numel() for param in Net().parameters() if param.requires_grad)
    assert results[0]['local'] + results[1]['local'] == whole
    assert 0 < results[0]['local'] < whole


# torch 2.6 cannot run FSDP on the CPU, and 2.7 and 2.8 die of it.
WORKS = dict(ddp=work_ddp, **(dict(fsdp2=work_fsdp2, fsdp=work_fsdp) if torch.__version__ >= '2.13' else {}))


def all_works(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    for name, work in WORKS.items():
        torch.save(work(rank, folder), f'{folder}/{name}_{rank}.pt')
    dist.barrier()
    # Not destroyed: in torch 2.6 that waits, with the interpreter's lock, for a thread that needs the lock.
