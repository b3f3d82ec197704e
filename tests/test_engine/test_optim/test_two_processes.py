"""Two processes over gloo: DDP, FSDP and FSDP2; each process of a test runs this file with the name of its work."""
import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from update_toys import sgd, train

from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.engine.optim.sharding import Shards, is_dtensor, to_layout_of

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
    return [dict(inputs=torch.randn(size, 3, generator=generator, dtype=torch.float64),
                 data_samples=torch.randint(0, 4, (size, ), generator=generator)) for _ in range(count)]


def shares(rank, count=STEPS):
    return [{name: value.chunk(2)[rank] for name, value in batch.items()} for batch in batches(count)]


SETTINGS = dict(
    plain=dict(),
    sam=dict(stages=dict(sam=dict(type='SAM', rho=0.5))),
    asam=dict(stages=dict(sam=dict(type='SAM', rho=0.5, adaptive=True)), clip_grad=dict(max_norm=0.1)),
    reuse=dict(stages=dict(sam=dict(type='SAM', rho=0.5, every=2, reuse=True),
                           lookahead=dict(type='Lookahead', k=2, momentum='pullback')), clip_grad=dict(max_norm=0.1)),
    all=dict(stages=dict(sam=dict(type='SAM', rho=0.5), gc=dict(type='GradientCentralization'),
                         lookahead=dict(type='Lookahead', k=2)), accumulative_counts=2, clip_grad=dict(max_norm=0.1)),
)  # yapf: disable


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
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return {work: [torch.load(folder / f'{work}_{rank}.pt', weights_only=False) for rank in range(2)] for work in WORKS}


def assert_close(found, expected, atol=1e-10):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=lambda text, name=name: f'{name}: {text}')


# ---------------------------------------------------------------------- DDP


def ddp(net, **kwargs):
    return MMDistributedDataParallel(net, device_ids=None, **kwargs)


def work_ddp(rank):
    """All settings; per-process climbs; a stop within an accumulation; a bad loss on one process."""
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
    wrapper = ComposedOptimWrapper(sgd(net), bad_loss='skip', **copy.deepcopy(SETTINGS['sam']))
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
        if key != 'message':  # same weights on both, to the bit
            assert all(torch.equal(results[0][key][name], results[1][key][name]) for name in results[0][key]), key
    for name in SETTINGS:
        expected = one_process(name)
        for view in (False, True):
            assert_close(results[0][name, view], expected)
    assert all(torch.equal(results[0]['resumed'][name], value) for name, value in results[0]['all', False].items())

    # Each process climbs by its own part: the mean of two gradients, each at its own worst point.
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
    mesh = init_device_mesh('cpu', (2, ))
    for part in (net.first, net.second):
        fully_shard(part, mesh=mesh)
    return fully_shard(net, mesh=mesh)


def gathered(value):
    if isinstance(value, torch.Tensor):
        return value.full_tensor() if is_dtensor(value) else value
    if isinstance(value, dict):
        return {key: gathered(part) for key, part in value.items()}
    return value


def work_fsdp2(rank):
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
    results = results['fsdp2']
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


# ---------------------------------------------------------------------- one process


def test_norms_of_half_precision_are_taken_in_float32():
    parts = [torch.full((1000, ), 100., dtype=torch.float16), torch.full((7, ), 3., dtype=torch.bfloat16)]
    expected = (1000 * 100.**2 + 7 * 9.)**0.5
    norm = Shards().norm(parts)
    assert norm.dtype is torch.float32
    assert norm.item() == pytest.approx(expected, rel=1e-3)
    assert Shards().norm([]) == 0
    assert Shards().norm([torch.zeros(0), torch.ones(4)]) == 2


def test_the_inner_product_of_lists():
    left, right = [torch.tensor([1., 2.]), torch.tensor(3.)], [torch.tensor([4., 5.]), torch.tensor(6.)]
    assert Shards().inner(left, right) == 32
    assert Shards().inner([], []) == 0


def test_loaded_tensors_take_the_type_of_what_is_there():
    loaded = to_layout_of(torch.ones(2, dtype=torch.float64), torch.zeros(2))
    assert loaded.dtype is torch.float32
    with pytest.raises(ValueError, match=r'shape \(3,\) was saved, and \(2,\) is wanted'):
        to_layout_of(torch.ones(3), torch.zeros(2))


WORKS = dict(ddp=work_ddp, fsdp2=work_fsdp2)

if __name__ == '__main__':  # one of two processes
    own_rank, own_folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group('gloo', init_method=f'file://{own_folder}/init', rank=own_rank, world_size=2)
    for own_name, own_work in WORKS.items():
        torch.save(own_work(own_rank), f'{own_folder}/{own_name}_{own_rank}.pt')
    dist.destroy_process_group()
