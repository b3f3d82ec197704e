"""SAM against the paper's two passes, written out."""

import math

import pytest
import torch
from mmengine.logging import MessageHub
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.engine.optim import SAM, ComposedOptimWrapper

DRY = dict(dropout=0.0)


def run(count=1, options=None, net=None, **stage):
    net = make_net(**DRY) if net is None else net
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM', **stage)), **(options or {}))
    logged = train(net, wrapper, make_batches(count))
    return net, wrapper, logged


def first_gradient(net):
    params = [param for param in net.parameters() if param.requires_grad]
    loss = net.parse_losses(net(**make_batches(1)[0]))[0]
    names = [name for name, param in net.named_parameters() if param.requires_grad]
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    return {
        name: (param.detach().clone(), grad)
        for name, param, grad in zip(names, params, grads, strict=True)
        if grad is not None
    }


def ascended_weight(**stage):
    """Where the second pass of the first update looked at fc.weight."""
    net, _, _ = run(**stage)
    return net.seen[1]['weight']


@pytest.mark.parametrize(('adaptive', 'eta'), [(False, 0.0), (True, 0.0), (True, 0.1), ('weights', 0.01)])
def test_it_ascends_where_the_papers_say(adaptive, eta):
    """One norm over all parameters; ``'weights'`` is the authors' ASAM, where biases ascend as in SAM."""
    own = first_gradient(make_net(**DRY))
    size = {
        name: torch.ones_like(weight)
        if adaptive is False or (adaptive == 'weights' and 'weight' not in name)
        else weight.abs() + eta
        for name, (weight, _) in own.items()
    }
    norm = math.sqrt(
        sum((size[name].double() * grad.double()).square().sum().item() for name, (_, grad) in own.items())
    )
    weight, grad = own['fc.weight']
    expected = weight + 0.3 * size['fc.weight'] ** 2 * grad / norm
    torch.testing.assert_close(ascended_weight(rho=0.3, adaptive=adaptive, eta=eta), expected, rtol=1e-5, atol=1e-7)


def test_the_two_public_forms_of_asam_differ():
    assert not torch.allclose(
        ascended_weight(rho=0.3, adaptive=True), ascended_weight(rho=0.3, adaptive='weights', eta=0.01), atol=1e-4
    )


def test_with_rho_zero_it_is_the_optimizer_alone():
    net, _, _ = run(4, rho=0.0)
    plain = make_net(**DRY)
    train(plain, ComposedOptimWrapper(sgd(plain)), make_batches(4))
    assert_same(net, plain)


def test_weights_are_restored_to_the_same_bits():
    net = make_net(**DRY)
    before = [param.detach().clone() for param in net.parameters()]
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM', rho=1e3)), accumulative_counts=2)
    train(net, wrapper, make_batches(1), total=4)
    assert wrapper.updates == 0
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not torch.equal(net.seen[1]['weight'], net.fc.weight)


def test_it_ascends_on_every_third_update_only():
    net, _, _ = run(14, every=3, options=dict(accumulative_counts=2))  # 7 updates: 0, 3 and 6 ascend
    calls = [2, 2, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 2, 2]
    assert len(net.seen) == sum(calls)
    at = iter(net.seen)
    for count in calls:
        inputs = [next(at)['inputs'] for _ in range(count)]
        assert all(torch.equal(inputs[0], other) for other in inputs)


@pytest.mark.parametrize('accumulation', [1, 3])
@pytest.mark.parametrize('adaptive', [False, True])
def test_reuse_is_algorithm_1_of_looksam(accumulation, adaptive):
    """Against the algorithm written out, on flat vectors in float64."""
    every, alpha, rho, lr, updates = 3, 0.6, 0.2, 0.05, 7
    batches = [
        dict(inputs=batch['inputs'].double(), data_samples=batch['data_samples'])
        for batch in make_batches(updates * accumulation)
    ]
    net = make_net(**DRY).double()
    wrapper = ComposedOptimWrapper(
        sgd(net, lr=lr, momentum=0.0),
        accumulative_counts=accumulation,
        stages=dict(sam=dict(type='SAM', rho=rho, every=every, reuse=alpha, adaptive=adaptive)),
    )
    train(net, wrapper, batches)

    other = make_net(**DRY).double()
    params = [param for name, param in other.named_parameters() if param.requires_grad and name != 'unused']
    flat = torch.nn.utils.parameters_to_vector

    def gradient(batch, weights):
        torch.nn.utils.vector_to_parameters(weights, params)
        loss = other.parse_losses(other(**batch))[0]
        return torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, params)])

    weights = flat(params).detach().clone()
    for update in range(updates):
        first, second = torch.zeros_like(weights), torch.zeros_like(weights)
        for batch in batches[update * accumulation : (update + 1) * accumulation]:
            grad = gradient(batch, weights)
            first += grad / accumulation
            if update % every == 0:
                size = weights.abs() if adaptive else torch.ones_like(weights)
                second += gradient(batch, weights + rho * size**2 * grad / (size * grad).norm()) / accumulation
        if update % every == 0:
            orthogonal = second - (second @ first) / (first @ first) * first
            step = second
        else:
            step = first + alpha * first.norm() / orthogonal.norm() * orthogonal
        weights = weights - lr * step
    found = flat([param for name, param in net.named_parameters() if param.requires_grad and name != 'unused'])
    torch.testing.assert_close(found.detach(), weights, rtol=0, atol=1e-10)


def test_it_begins_with_its_epoch():
    hub = MessageHub.get_current_instance()
    net = make_net(**DRY)
    wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='SAM', start_epoch=1)))
    before = dict(hub.runtime_info)
    hub.runtime_info.clear()  # of a Runner of another test, whose max_epochs may be 1
    try:
        for epoch, calls in ((0, 1), (1, 2)):
            hub.update_info('epoch', epoch)
            net.seen.clear()
            train(net, wrapper, make_batches(1))
            assert len(net.seen) == calls
        hub.update_info('max_epochs', 1)
        with pytest.raises(ValueError, match=r'start_epoch to be at most 0, .* it would never ascend'):
            run(1, start_epoch=1)
        hub.runtime_info.clear()
        with pytest.raises(ValueError, match='MessageHub, since start_epoch=1, got none'):
            run(1, start_epoch=1)
    finally:
        hub.runtime_info.clear()
        hub.runtime_info.update(before)


def test_its_numbers_are_logged_on_request():
    own = first_gradient(make_net(**DRY))
    hub = MessageHub.get_current_instance()
    for key in ('train/sam/ascent_norm', 'train/sam/ascent_loss'):
        hub.log_scalars.pop(key, None)
    run(1)
    assert 'train/sam/ascent_norm' not in hub.log_scalars
    _, _, logged = run(1, log=True, options=dict(accumulative_counts=1))
    norm = math.sqrt(sum(grad.square().sum().item() for _, grad in own.values()))
    assert hub.get_scalar('train/sam/ascent_norm').current() == pytest.approx(norm, rel=1e-5)
    assert hub.get_scalar('train/sam/ascent_loss').current() > logged[0]['loss']


@pytest.mark.parametrize(
    'options',
    [dict(accumulative_counts=2), dict(dtype='float32', loss_scale=1024.0, accumulative_counts=2)],
    ids=['accumulated', 'scaled'],
)
@pytest.mark.parametrize('adaptive', [False, True])
def test_the_logged_norm_is_that_of_the_loss_of_the_micro_batch(adaptive, options):
    """Not of what is accumulated of it, nor of what a loss scaler makes of it."""
    own = first_gradient(make_net(**DRY))
    factor = [weight.abs() if adaptive else 1.0 for weight, _ in own.values()]
    norm = math.sqrt(sum((f * grad).square().sum().item() for f, (_, grad) in zip(factor, own.values(), strict=True)))
    net = make_net(**DRY)
    stages = dict(sam=dict(type='SAM', log=True, adaptive=adaptive))
    train(net, ComposedOptimWrapper(sgd(net), stages=stages, **options), make_batches(1), total=2)
    logged = MessageHub.get_current_instance().get_scalar('train/sam/ascent_norm').current()
    assert logged == pytest.approx(norm, rel=1e-5)


def test_the_losses_that_are_logged_are_those_of_the_first_pass():
    _, _, logged = run(1, rho=5.0)
    plain = make_net(**DRY)
    assert logged == train(plain, ComposedOptimWrapper(sgd(plain)), make_batches(1))


def test_it_keeps_one_copy_of_the_weights():
    _, wrapper, _ = run(3, rho=0.1)
    sam = wrapper.stages['sam']
    kept = sum(tensor.numel() for tensor in sam._buffers.values())
    used = sum(param.numel() for param in wrapper.optimizer.param_groups[0]['params'] if param.requires_grad)
    assert kept <= used
    assert not sam.first_gradient
    assert not sam.direction


def test_with_reuse_it_keeps_one_copy_too(monkeypatch):
    held, step_length = [], SAM._step_length

    def look(sam, update, norm):
        held.append((len(sam._buffers) > 0, len(sam.direction)))
        return step_length(sam, update, norm)

    monkeypatch.setattr(SAM, '_step_length', look)
    _, wrapper, _ = run(4, rho=0.1, every=2, reuse=True)
    assert held == [(True, 0)] * 2  # in an ascent: the copy to restore, and no direction any more
    sam = wrapper.stages['sam']
    assert sam.direction
    assert not sam._buffers
    assert not sam.first_gradient


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(rho=math.nan), r'expected rho in .* got nan'),
        (dict(every=0), r'expected every in \[1, inf\), got 0'),
        (dict(adaptive='weight'), "expected adaptive to be one of .*, got 'weight'"),
        (dict(eta=0.1), 'expected adaptive beside eta=0.1'),
        (dict(reuse=True), 'expected every > 1 beside reuse=True'),
        (dict(every=5, reuse=True, sync=False), 'Drop one of them'),
        (dict(every=5, reuse=-1.0), 'expected reuse in .*, got -1.0'),
        (dict(start_epoch=-1), 'expected start_epoch in .*, got -1'),
    ],
    ids=str,
)
def test_numbers_that_cannot_be(options, text):
    with pytest.raises(ValueError, match=text):
        SAM(**options)
