import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import ComposedOptimWrapper, Lookahead, Update
from hybridcls.registry import OPTIMIZERS

OPTIMIZER = dict(
    sgd=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    adam=lambda params: torch.optim.Adam(params, lr=0.1),
    lamb=lambda params: OPTIMIZERS.get('Lamb')(params, lr=0.1),
)


def walk(stage, steps, optimizer='sgd', target=3.0):
    """Steps on ``(w - target)^2`` from w = 0; returns all that w and the momentum were."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = OPTIMIZER[optimizer]([weight])
    update = Update(optimizer, [weight], ['w'], [None])
    stage.start(update)
    trace = []
    for _ in range(steps):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        with torch.no_grad():
            stage.before_step(update)
            optimizer.step()
            stage.after_step(update)
        state = optimizer.state[weight]
        momentum = state['momentum_buffer'] if 'momentum_buffer' in state else state['exp_avg']
        trace.append((weight[0].item(), momentum[0].item()))
    return trace


def by_hand(steps, k, alpha, momentum, lr=0.1, beta=0.9, target=3.0):
    """The same with numbers: Algorithm 1, SGD with momentum inside."""
    fast = slow = velocity = slow_velocity = 0.0
    trace = []
    for step in range(1, steps + 1):
        velocity = beta * velocity + 2 * (fast - target)
        fast -= lr * velocity
        if step % k == 0:
            slow += alpha * (fast - slow)
            fast = slow
            if momentum == 'reset':
                velocity = 0.0
            elif momentum == 'pullback':
                velocity = slow_velocity = slow_velocity + alpha * (velocity - slow_velocity)
        trace.append((fast, velocity))
    return trace


@pytest.mark.parametrize('momentum', ['keep', 'reset', 'pullback'])
@pytest.mark.parametrize(('k', 'alpha'), [(5, 0.5), (1, 0.8), (3, 1.0), (2, 0.0)])
def test_algorithm_1_by_hand(k, alpha, momentum):
    torch.testing.assert_close(
        walk(Lookahead(k, alpha, momentum), 13), by_hand(13, k, alpha, momentum), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize('optimizer', ['adam', 'lamb'])
def test_the_first_moment_of_adam_and_its_kin_is_moved(optimizer):
    kept = walk(Lookahead(3, 0.5), 3, optimizer)
    assert walk(Lookahead(3, 0.5, 'reset'), 3, optimizer)[-1] == (kept[-1][0], 0.0)
    pulled = walk(Lookahead(3, 0.5, 'pullback'), 3, optimizer)[-1]
    assert pulled[1] == pytest.approx(0.5 * kept[-1][1])  # the slow momentum was 0


def test_slow_weights_start_where_training_started():
    net = make_net()
    begin = {name: param.detach().clone() for name, param in net.named_parameters()}
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(lookahead=dict(type='Lookahead', k=2, alpha=0.25)))
    train(net, wrapper, make_batches(1), total=9)
    fast = make_net()
    train(fast, OptimWrapper(sgd(fast)), make_batches(1), total=9)
    for i, (name, _) in enumerate(net.named_parameters()):
        if i in wrapper.stages['lookahead'].slow:
            assert torch.equal(wrapper.stages['lookahead'].slow[i], begin[name])
    assert_same(net, fast)


def test_with_alpha_one_it_is_the_optimizer_alone():
    net, plain = make_net(dropout=0.0), make_net(dropout=0.0)
    train(net, ComposedOptimWrapper(sgd(net), stages=dict(l=dict(type='Lookahead', k=2, alpha=1.0))), make_batches(5))
    train(plain, OptimWrapper(sgd(plain)), make_batches(5))
    assert_same(net, plain)


def test_frozen_parameters_are_left_alone_whenever_they_are_frozen():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(l=dict(type='Lookahead', k=2)))
    train(net, wrapper, make_batches(1), total=9)
    net.fc.requires_grad_(False)
    net.frozen.requires_grad_(True)  # and one that is thawed
    weight, thawed = net.fc.weight.detach().clone(), net.frozen.weight.detach().clone()
    position = [name for name, _ in net.named_parameters()].index('frozen.weight')
    train(net, wrapper, make_batches(1), start=1, total=9)
    assert torch.equal(net.fc.weight, weight)
    assert torch.equal(wrapper.stages['l'].slow[position], thawed)


def test_it_keeps_one_copy():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(l=dict(type='Lookahead', k=2)))
    train(net, wrapper, make_batches(4))
    stage = wrapper.stages['l']
    assert sum(t.numel() for t in stage.slow.values()) == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert not stage.slow_momentum


def test_an_optimizer_without_momentum_has_none_to_move():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net, momentum=0.0), stages=dict(l=dict(type='Lookahead', k=1, momentum='reset')))
    with pytest.raises(ValueError, match=r"optimizer with momentum .* for momentum='reset', got SGD without"):
        train(net, wrapper, make_batches(1))


def test_state_of_another_model_is_refused():
    net = make_net()
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(l=dict(type='Lookahead')))
    train(net, wrapper, make_batches(1))
    state = copy.deepcopy(wrapper.state_dict())
    state['state'][0]['l/slow'] = torch.zeros(7)
    other = make_net()
    with pytest.raises(ValueError, match=r'Lookahead: expected slow of parameter 0 .*got \(7,\)'):
        ComposedOptimWrapper(sgd(other), stages=dict(l=dict(type='Lookahead'))).load_state_dict(state)


def test_choices():
    with pytest.raises(ValueError, match=r"expected momentum to be one of .*, got 'zero'"):
        Lookahead(momentum='zero')
    with pytest.raises(TypeError, match=r'expected k to be an integer, got 2\.5'):
        Lookahead(k=2.5)
