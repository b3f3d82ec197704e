"""Mixed precision of the optimizer wrapper: types, scaler, skipped steps."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn
from update_toys import HardNet, assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.config.mixed_precision import mixed_precision
from hybridcls.engine.optim import ComposedOptimWrapper

ALL = dict(sam=dict(type='SAM'), gc=dict(type='GradientCentralization'), lookahead=dict(type='Lookahead', k=2))


class Recorder(HardNet):
    """Says in which type its convolution ran."""

    def __init__(self):
        super().__init__(dropout=0.0)
        self.types = []
        self.conv.register_forward_hook(lambda module, args, output: self.types.append(output.dtype))


@pytest.mark.parametrize(
    ('options', 'dtype', 'scaled'),
    [
        (dict(), torch.float32, False),
        (dict(amp='bfloat16'), torch.bfloat16, False),
        (dict(amp=True), torch.bfloat16, False),
        (dict(amp=torch.bfloat16), torch.bfloat16, False),
        (dict(dtype='bfloat16'), torch.bfloat16, False),
        (dict(amp='fp16'), torch.float16, True),
        (dict(dtype=torch.float16, loss_scale=512.0), torch.float16, True),
        (dict(loss_scale='dynamic'), torch.bfloat16, True),
        (dict(amp=False), torch.float32, False),
        (dict(dtype='float32'), torch.float32, False),
        (dict(amp='float16', loss_scale=dict(init_scale=8.0)), torch.float16, True),
    ],
    ids=str,
)
def test_both_passes_run_in_the_type_that_was_asked(options, dtype, scaled):
    torch.manual_seed(3)
    net = Recorder()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM')), **options)
    train(net, wrapper, make_batches(1))
    assert net.types == [dtype, dtype]
    assert (wrapper.loss_scaler is not None) == scaled


@pytest.mark.parametrize(
    ('options', 'error', 'text'),
    [
        (dict(amp='bf-16'), ValueError, r"expected amp to be one of .*, got 'bf-16'.*Did you mean 'bf16'"),
        (dict(amp=False, dtype='float16'), ValueError, 'expected no dtype beside amp=False'),
        (dict(amp='float16', dtype='bfloat16'), ValueError, 'contradict each other'),
        (dict(amp=16), TypeError, 'expected amp to be a bool, a name of a dtype or None, got 16'),
        (
            dict(amp='float16', loss_scale='static'),
            TypeError,
            "expected loss_scale to be 'dynamic', a number, or a dict .* got 'static'",
        ),
    ],
    ids=str,
)
def test_types_that_cannot_be(options, error, text):
    with pytest.raises(error, match=text):
        ComposedOptimWrapper(sgd(make_net()), **options)


def float32_with_scaler(net, optimizer=None, scale=64.0, interval=2, **options):
    """A loss scaler without autocast: powers of two, so that nothing but an overflow can change a bit."""
    wrapper = ComposedOptimWrapper(
        sgd(net) if optimizer is None else optimizer,
        dtype='float32',
        loss_scale=dict(init_scale=scale, growth_interval=interval),
        **options,
    )
    assert wrapper.loss_scaler is not None
    return wrapper


@pytest.mark.parametrize(
    'stages',
    [dict(), ALL, dict(sam=dict(type='SAM', every=2, reuse=True)), dict(sam=dict(type='SAM', adaptive=True, log=True))],
)
@pytest.mark.parametrize('options', [dict(), dict(accumulative_counts=2, clip_grad=dict(max_norm=0.05))], ids=str)
def test_loss_scaling_changes_nothing(stages, options):
    net, scaled = make_net(dropout=0.0), make_net(dropout=0.0)
    train(net, ComposedOptimWrapper(sgd(net), stages=stages, **options), make_batches(6))
    wrapper = float32_with_scaler(scaled, stages=stages, **options)
    train(scaled, wrapper, make_batches(6))
    assert wrapper.loss_scaler.get_scale() > 64.0  # it has grown on the way
    assert_same(scaled, net, atol=1e-7)


class Overflow(HardNet):
    """Its gradient is infinite in the passes that are named."""

    def __init__(self, bad=()):
        super().__init__(dropout=0.0)
        self.bad, self.passes = set(bad), 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, data_samples, mode)
        if self.passes in self.bad:
            losses['loss_size'].register_hook(lambda grad: grad * float('inf'))
        self.passes += 1
        return losses


@pytest.mark.parametrize('bad', [[2, 3], [3]])  # both passes, as the same numbers do, or the second pass alone
@pytest.mark.parametrize('fused', [False, True])
def test_an_overflow_is_no_update(bad, fused):
    """Weights stay, Lookahead does not count it, and the next update ascends; the scale is halved."""
    torch.manual_seed(3)
    net = Overflow(bad)
    stages = dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=2))
    wrapper = float32_with_scaler(net, sgd(net, fused=fused), stages=stages, interval=100)
    batches = make_batches(3)
    train(net, wrapper, batches[:1], total=3)
    before = [param.detach().clone() for param in net.parameters()]
    train(net, wrapper, batches[1:2], start=1, total=3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert wrapper.updates == 1
    assert wrapper.stages['lookahead'].steps_since == 1
    assert wrapper.loss_scaler.get_scale() == 32.0
    train(net, wrapper, batches[2:], start=2, total=3)
    assert wrapper.updates == 2
    assert not any(
        torch.equal(a, b)
        for a, b in zip(before, net.parameters(), strict=True)
        if b.requires_grad and b.grad is not None
    )


def test_after_an_overflow_there_is_no_ascent():
    """The second pass sees the weights themselves, never NaN; if it is finite, that is a plain update."""
    torch.manual_seed(3)
    net, plain = Overflow([0]), make_net(dropout=0.0)
    train(net, float32_with_scaler(net, stages=dict(sam=dict(type='SAM'))), make_batches(1))
    assert torch.equal(net.seen[1]['weight'], net.seen[0]['weight'])
    train(plain, OptimWrapper(sgd(plain)), make_batches(1))
    assert_same(net, plain, atol=1e-7)


@pytest.mark.parametrize('dampening', [0.0, 0.5])
def test_fused_sgd_has_no_momentum_of_a_step_that_was_skipped(monkeypatch, dampening):
    """An overflow in the first update is usual; torch has then made its buffers, of memory with anything in it."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, 'empty_like', lambda tensor, **keys: empty_like(tensor, **keys).fill_(1e3))
    ends = []
    for bad, batches in (([0], make_batches(4)), ([], make_batches(4)[1:])):
        torch.manual_seed(3)
        net = Overflow(bad)
        wrapper = float32_with_scaler(net, sgd(net, fused=True, dampening=dampening), interval=100)
        train(net, wrapper, batches)
        assert wrapper.updates == 3
        ends.append([param.detach() for param in net.parameters()])
    torch.testing.assert_close(*ends, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    'stage', [dict(type='SAM', every=2, reuse=True), dict(type='FriendlySAM')], ids=lambda stage: stage['type']
)
def test_an_overflow_of_the_first_pass_alone_is_in_no_state(stage):
    torch.manual_seed(3)
    net = Overflow([0])
    wrapper = float32_with_scaler(net, stages=dict(sam=stage), interval=100)
    train(net, wrapper, make_batches(4))
    assert wrapper.updates == 4
    assert all(param.isfinite().all() for param in net.parameters())
    state = wrapper.stages['sam'].state_dict()['tensors']
    assert all(value.isfinite().all() for tensors in state.values() for value in tensors.values())


def test_the_scaler_is_in_the_checkpoint():
    net = make_net(dropout=0.0)
    wrapper = float32_with_scaler(net, interval=3)
    train(net, wrapper, make_batches(4), total=9)
    state = copy.deepcopy(wrapper.state_dict())
    other = float32_with_scaler(make_net(), interval=3)
    other.load_state_dict(state)
    assert other.loss_scaler.get_scale() == 128.0
    assert other.loss_scaler.state_dict() == wrapper.loss_scaler.state_dict()
    assert state['loss_scaler'] == wrapper.loss_scaler.state_dict()  # where AmpOptimWrapper looks


def test_states_of_the_wrappers_of_mmengine_are_taken():
    net = make_net(dropout=0.0)
    plain = OptimWrapper(sgd(net))
    train(net, plain, make_batches(2), total=9)
    state = dict(
        copy.deepcopy(plain.state_dict()),
        loss_scaler=dict(scale=2.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=100, _growth_tracker=7),
    )
    other = make_net(dropout=0.0)
    other.load_state_dict(net.state_dict())
    wrapper = float32_with_scaler(other)
    wrapper.load_state_dict(state)
    assert wrapper.loss_scaler.get_scale() == 2.0
    train(net, plain, make_batches(1), start=2, total=9)
    train(other, wrapper, make_batches(1), start=2, total=9)
    assert_same(other, net)


def test_a_constant_scale_stays():
    net = make_net(dropout=0.0)
    wrapper = ComposedOptimWrapper(sgd(net), amp='float16', loss_scale=16)
    train(net, wrapper, make_batches(3))
    assert wrapper.loss_scaler.get_scale() == 16.0


@pytest.mark.parametrize('amp', ['bfloat16', 'float16'])
def test_it_learns_in_half_precision(amp):
    net = make_net(dropout=0.0)
    wrapper = ComposedOptimWrapper(sgd(net), stages=ALL, amp=amp, loss_scale=256.0 if amp == 'float16' else None)
    logged = train(net, wrapper, make_batches(1) * 20)
    assert logged[-1]['loss'] < 0.6 * logged[0]['loss']
    assert all(param.dtype is torch.float32 for param in net.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize('amp', ['bfloat16', 'float16', None])
def test_it_learns_on_a_gpu(amp):
    net = make_net(dropout=0.0).cuda()
    stages = dict(ALL, sam=dict(type='SAM', every=2, reuse=True))
    wrapper = ComposedOptimWrapper(
        sgd(net), stages=stages, amp=amp, clip_grad=dict(max_norm=1.0), accumulative_counts=2
    )
    batches = [{name: value.cuda() for name, value in batch.items()} for batch in make_batches(1) * 40]
    logged = train(net, wrapper, batches)
    assert logged[-1]['loss'] < 0.6 * logged[0]['loss']
    other = ComposedOptimWrapper(sgd(nn.ModuleList([net])), stages=stages, amp=amp)
    other.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert all(tensor.is_cuda for tensor in other.stages['lookahead'].slow.values())


@pytest.mark.gpu
def test_a_non_finite_loss_is_seen_on_a_gpu():
    net = make_net().cuda()
    wrapper = ComposedOptimWrapper(sgd(net), nonfinite_loss='skip')
    batch = {name: value.cuda() for name, value in make_batches(1)[0].items()}
    train(net, wrapper, [batch])
    batch['inputs'][0] = float('nan')
    train(net, wrapper, [batch])
    assert wrapper.updates == 1


def test_the_wrapper_of_mmengine_that_needs_a_gpu_is_answered_where_there_is_none(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    cfg = Config(dict(optim_wrapper=dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))))
    with pytest.raises(
        ValueError, match=r"works on a GPU only.*ComposedOptimWrapper' and .*amp='bfloat16', or add --amp"
    ):
        list(mixed_precision(cfg, asked=False))
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    assert list(mixed_precision(cfg, asked=False)) == []
