"""MSAM against the authors' optimizers, and against its algorithm written out."""

import math

import pytest
import torch
from fidelity_checks import assert_faithful
from mmengine.logging import MessageHub
from torch import nn
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.apis.fidelity.fixed_inputs import SmallNet, set_parameters
from hybridcls.apis.fidelity.stage_cases import batch_of_step
from hybridcls.apis.fidelity.stored_numbers import stored_numbers
from hybridcls.engine.optim import MSAM, ComposedOptimWrapper

DRY = dict(dropout=0.0)


@pytest.mark.parametrize('case', ['MSAM', 'MSAM, AdamW', 'MSAM, AdamW with decay'])
def test_official_numbers(case):
    assert_faithful(case)


def test_the_decay_of_torch_differs_by_what_the_docstring_says():
    expected = stored_numbers('MSAM, AdamW with decay')
    net = set_parameters(SmallNet().double(), 0.5)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.1)
    wrapper = ComposedOptimWrapper(optimizer, stages=dict(msam=dict(type='MSAM', rho=1.0)))
    wrapper.initialize_count_status(net, 0, 5)
    for step in range(5):
        net.train_step(dict(inputs=torch.from_numpy(batch_of_step(step))), wrapper)
    off = [(abs(param.detach().numpy()).mean() - abs(expected[name]).mean()) for name, param in net.named_parameters()]
    assert 0 < max(map(abs, off)) < 2 * 5 * 0.02**2 * 0.1  # five steps of AdamW, each at most about lr an element


def run(count=6, net=None, optimizer=None, batches=None, total=None, **options):
    net = make_net(**DRY) if net is None else net
    optimizer = sgd(net) if optimizer is None else optimizer
    options = {'stages': dict(msam=dict(type='MSAM', rho=0.3)), **options}
    wrapper = ComposedOptimWrapper(optimizer, **options)
    train(net, wrapper, make_batches(count) if batches is None else batches, total=total)
    return net, wrapper


def test_with_rho_zero_it_is_the_optimizer_alone():
    for make in (sgd, lambda net: sgd(net, weight_decay=0.1), lambda net: torch.optim.AdamW(net.parameters())):
        net, plain = make_net(), make_net()
        torch.manual_seed(1)
        run(net=net, optimizer=make(net), stages=dict(msam=dict(type='MSAM', rho=0.0)))
        torch.manual_seed(1)
        train(plain, ComposedOptimWrapper(make(plain)), make_batches(6))
        assert_same(net, plain)


def test_one_pass_at_the_moved_weights_and_none_moved_in_between():
    """Each forward pass is at w - rho v / |v|; outside of it the weights are w, under accumulation too."""
    net = make_net(**DRY)
    optimizer, places = sgd(net), [param.data_ptr() for param in net.parameters()]
    wrapper = ComposedOptimWrapper(optimizer, stages=dict(msam=dict(type='MSAM', rho=0.7)), accumulative_counts=2)
    wrapper.initialize_count_status(net, 0, 8)
    for number, batch in enumerate(make_batches(8)):
        before = {name: value.clone() for name, value in net.state_dict().items()}
        momenta = [state['momentum_buffer'].double() for state in optimizer.state.values()]
        expected = before['fc.weight'].double()
        if number >= 2:
            norm = math.sqrt(sum(momentum.square().sum().item() for momentum in momenta))
            expected = expected - 0.7 / norm * optimizer.state[net.fc.weight]['momentum_buffer'].double()
        net.train_step(batch, wrapper)
        assert len(net.seen) == number + 1
        torch.testing.assert_close(net.seen[-1]['weight'].double(), expected, rtol=0, atol=1e-6)
        assert torch.equal(net.seen[-1]['weight'], before['fc.weight']) == (number < 2)
        if number % 2 == 0:  # no step: all weights are what they were, to the bit
            assert all(torch.equal(param, before[name]) for name, param in net.named_parameters())
        assert [param.data_ptr() for param in net.parameters()] == places


@pytest.mark.parametrize(('accumulation', 'amp'), [(1, None), (2, None), (2, 'bfloat16'), (2, 'float16')])
def test_the_algorithm_written_out_with_all_levers(accumulation, amp):
    """Clipping, Lookahead and accumulation beside it; two groups of parameters with a decay of their own."""
    updates, rho, k, decay = 5, 0.3, 2, 0.1

    def make():
        net = make_net(**DRY)
        late = [param for param in net.fc.parameters()]
        rest = [param for name, param in net.named_parameters() if not name.startswith('fc') and param.requires_grad]
        return net, torch.optim.SGD(
            [dict(params=rest, weight_decay=decay), dict(params=late, weight_decay=2 * decay)], lr=0.05, momentum=0.9
        )

    batches = make_batches(updates * accumulation)
    net, optimizer = make()
    stages = dict(msam=dict(type='MSAM', rho=rho), lookahead=dict(type='Lookahead', k=k))
    scale = dict(loss_scale=dict(init_scale=2.0**10, growth_interval=3)) if amp == 'float16' else {}
    run(
        net=net,
        optimizer=optimizer,
        batches=batches,
        stages=stages,
        amp=amp,
        clip_grad=dict(max_norm=0.5),
        accumulative_counts=accumulation,
        **scale,
    )

    other, plain = make()
    decays = {id(param): group['weight_decay'] for group in plain.param_groups for param in group['params']}
    params = [param for group in plain.param_groups for param in group['params']]
    for group in plain.param_groups:
        group['weight_decay'] = 0.0  # added by hand, at the moved weights
    slow = [param.detach().clone() for param in params]
    factor = 2.0**10 if amp == 'float16' else 1.0
    for update in range(updates):
        weights = [param.detach().clone() for param in params]
        momenta = [plain.state[param].get('momentum_buffer') for param in params]
        norm = math.sqrt(sum(momentum.double().square().sum().item() for momentum in momenta if momentum is not None))
        with torch.no_grad():
            for param, momentum in zip(params, momenta, strict=True):
                if momentum is not None:
                    param.sub_(rho / norm * momentum)
        moved = [param.detach().clone() for param in params]
        plain.zero_grad()
        for batch in batches[update * accumulation : (update + 1) * accumulation]:
            with torch.autocast('cpu', getattr(torch, amp)) if amp else torch.enable_grad():
                loss = other.parse_losses(other(**batch))[0]
            (loss / accumulation * factor).backward()
        with torch.no_grad():
            for param, weight in zip(params, weights, strict=True):
                param.copy_(weight)
                if param.grad is not None:
                    param.grad.div_(factor)
        nn.utils.clip_grad_norm_(params, 0.5)
        for param, at in zip(params, moved, strict=True):
            if param.grad is not None:
                param.grad.add_(at, alpha=decays[id(param)])
        plain.step()
        if (update + 1) % k == 0:
            with torch.no_grad():
                for param, value in zip(params, slow, strict=True):
                    value.lerp_(param, 0.5)
                    param.copy_(value)
    assert_same(net, other, atol=1e-6 if amp is None else 2e-3)


@pytest.mark.parametrize(
    'keys', [dict(nesterov=True), dict(maximize=True), dict(nesterov=True, maximize=True)], ids=str
)
def test_nesterov_and_maximize_are_those_of_sgd(keys):
    """By hand, in one vector: the decay is that of the moved weights, whatever SGD makes of the gradient."""
    rho, lr, decay = [0.3, 0.2, 0.4, 0.1, 0.3], 0.05, 0.1
    batches = make_batches(len(rho))
    net = make_net(**DRY)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=decay, **keys)
    wrapper = ComposedOptimWrapper(optimizer, stages=dict(msam=dict(type='MSAM')))
    wrapper.initialize_count_status(net, 0, len(rho))
    for batch, radius in zip(batches, rho, strict=True):
        wrapper.stages['msam'].rho = radius  # as a schedule does
        net.train_step(batch, wrapper)

    other = make_net(**DRY)
    params = [param for name, param in other.named_parameters() if param.requires_grad and name != 'unused']
    weights = nn.utils.parameters_to_vector(params).detach()
    momentum = torch.zeros_like(weights)
    for batch, radius in zip(batches, rho, strict=True):
        moved = weights - radius * momentum / (momentum.norm() + 1e-12)
        nn.utils.vector_to_parameters(moved, params)
        loss = other.parse_losses(other(**batch))[0]
        grad = torch.cat([one.flatten() for one in torch.autograd.grad(loss, params)])
        grad = (-grad if keys.get('maximize') else grad) + decay * moved
        momentum = 0.9 * momentum + grad
        weights = weights - lr * (grad + 0.9 * momentum if keys.get('nesterov') else momentum)
    nn.utils.vector_to_parameters(weights, params)
    assert_same(net, other, atol=1e-6)


def test_it_begins_at_its_epoch():
    hub = MessageHub.get_current_instance()
    net = make_net(**DRY)
    optimizer, before_all = sgd(net), dict(hub.runtime_info)
    hub.runtime_info.clear()  # of a Runner of another test
    try:
        hub.update_info('max_epochs', 2)
        wrapper = ComposedOptimWrapper(optimizer, stages=dict(msam=dict(type='MSAM', start_epoch=1)))
        for epoch, batch in zip((0, 0, 0, 1), make_batches(4), strict=True):
            hub.update_info('epoch', epoch)
            before = net.fc.weight.detach().clone()
            train(net, wrapper, [batch])
            assert torch.equal(net.seen[-1]['weight'], before) == (epoch == 0)
        with pytest.raises(ValueError, match=r'MSAM: expected start_epoch to be at most 1'):
            train(net, ComposedOptimWrapper(optimizer, stages=dict(msam=dict(type='MSAM', start_epoch=2))), [batch])
    finally:
        hub.runtime_info.clear()
        hub.runtime_info.update(before_all)


@pytest.mark.parametrize('make', [sgd, lambda net: torch.optim.AdamW(net.parameters(), lr=0.01)], ids=['sgd', 'adamw'])
@pytest.mark.parametrize('stop', [1, 3, 5])  # 3 and 5 are in the middle of an accumulation
def test_a_resumed_run_ends_in_the_same_bits(stop, make):
    options = dict(accumulative_counts=2, stages=dict(msam=dict(type='MSAM'), look=dict(type='Lookahead', k=2)))
    batches = make_batches(8)
    straight = make_net(**DRY)
    run(net=straight, optimizer=make(straight), batches=batches, **options)
    net = make_net(**DRY)
    _, wrapper = run(net=net, optimizer=make(net), batches=batches[:stop], total=8, **options)
    state, weights = wrapper.state_dict(), {name: value.clone() for name, value in net.state_dict().items()}
    assert not any('msam' in str(key) for entry in state['state'].values() for key in entry)
    resumed = make_net(seed=9, **DRY)
    resumed.load_state_dict(weights)
    other = ComposedOptimWrapper(make(resumed), **options)
    other.load_state_dict(state)
    train(resumed, other, batches[stop:], start=stop, total=8)
    assert_same(resumed, straight)


def test_a_skipped_step_of_the_loss_scaler_leaves_everything():
    net, wrapper = run(3, amp='float16', loss_scale=dict(init_scale=4.0))
    weights = {name: value.clone() for name, value in net.named_parameters()}
    momenta = [state['momentum_buffer'].clone() for state in wrapper.optimizer.state.values()]
    wrapper.loss_scaler.update(2.0**60)
    net.train_step(make_batches(1)[0], wrapper)
    assert wrapper.updates == 3
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())
    after = [state['momentum_buffer'] for state in wrapper.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momenta, after, strict=True))


@pytest.mark.parametrize('what', ['forward', 'loss', 'backward', 'forgotten'])
def test_a_pass_that_fails_leaves_the_weights(what):
    net, wrapper = run(2)
    weights = {name: value.clone() for name, value in net.named_parameters()}
    batch = make_batches(1)[0]
    if what == 'forward':
        with pytest.raises(RuntimeError, match='out of memory'), wrapper.optim_context(net):
            raise RuntimeError('out of memory')
    elif what == 'loss':
        with pytest.raises(FloatingPointError):
            net.train_step(dict(batch, inputs=batch['inputs'] * float('nan')), wrapper)
    elif what == 'backward':
        with wrapper.optim_context(net):
            loss = net.parse_losses(net(**batch))[0].detach()
        with pytest.raises(RuntimeError, match='does not require grad'):
            wrapper.update_params(loss)
    else:  # a forward pass without update_params: the next one moves from the same weights
        with wrapper.optim_context(net):
            net(**batch)
        first = net.seen[-1]['weight']
        with wrapper.optim_context(net):
            loss = net.parse_losses(net(**batch))[0]
        assert torch.equal(net.seen[-1]['weight'], first)
        wrapper.optimizer.param_groups[0]['lr'] = 0.0
        wrapper.update_params(loss)
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())


def test_what_was_frozen_since_stays():
    net, wrapper = run(2)
    net.fc.requires_grad_(False)
    weight = net.fc.weight.detach().clone()
    net.train_step(make_batches(1)[0], wrapper)
    assert torch.equal(net.seen[-1]['weight'], weight)


def test_it_keeps_one_copy_of_the_weights():
    _, wrapper = run(3)
    moved = sum(state['momentum_buffer'].numel() for state in wrapper.optimizer.state.values())
    assert sum(buffer.numel() for buffer in wrapper.stages['msam']._buffers.values()) == moved


def test_an_optimizer_without_momentum_is_refused():
    text = r'MSAM: expected an optimizer with momentum \(momentum_buffer or exp_avg\).* got {} without'
    net = make_net()
    with pytest.raises(ValueError, match=text.format('SGD')):  # before the first update
        run(1, net=net, optimizer=sgd(net, momentum=0.0))
    with pytest.raises(ValueError, match=text.format('Adagrad')):  # nothing says so before it has stepped
        run(2, net=net, optimizer=torch.optim.Adagrad(net.parameters()))
    with pytest.raises(ValueError, match=r'expected rho in .* The authors use 3'):
        MSAM(rho=-1)


def test_it_must_know_of_the_forward_pass():
    net, wrapper = run(1)
    with pytest.raises(RuntimeError, match='optim_context, as MSAM must move the weights before that'):
        wrapper.update_params(net.parse_losses(net(**make_batches(1)[0]))[0])


def test_it_excludes_sam():
    with pytest.raises(ValueError, match=r"both of the kind 'sharpness'.*stages=dict\(msam=None\)"):
        run(1, stages=dict(sam=dict(type='SAM'), msam=dict(type='MSAM')))
