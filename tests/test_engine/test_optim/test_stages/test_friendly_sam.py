"""FriendlySAM against the authors' optimizer, and against its algorithm written out."""

import pytest
import torch
from fidelity_checks import assert_faithful
from update_toys import assert_same, make_batches, make_net, sgd, train

from hybridcls.apis.fidelity.stage_cases import TRAININGS
from hybridcls.engine.optim import ComposedOptimWrapper, FriendlySAM

DRY = dict(dropout=0.0)


@pytest.mark.parametrize('case', [name for name in TRAININGS if name.startswith('FriendlySAM')])
def test_official_numbers(case):
    assert_faithful(case)


def run(net, batches, start=0, total=None, state=None, stage=None, **options):
    stages = dict(sam=dict(type='FriendlySAM', **(stage or {})))
    wrapper = ComposedOptimWrapper(sgd(net, momentum=0.0), stages=stages, **options)
    if state is not None:
        wrapper.load_state_dict(state)
    train(net, wrapper, batches, start=start, total=total)
    return wrapper


def test_without_sigma_it_is_sam():
    net, other = make_net(), make_net()
    torch.manual_seed(1)
    run(net, make_batches(4), stage=dict(sigma=0.0, rho=0.3))
    torch.manual_seed(1)
    sam = dict(sam=dict(type='SAM', rho=0.3))
    train(other, ComposedOptimWrapper(sgd(other, momentum=0.0), stages=sam), make_batches(4))
    assert_same(net, other)


def test_a_hook_may_change_rho():
    nets = make_net(**DRY), make_net(**DRY)
    for net, first in zip(nets, (0.1, 0.3), strict=True):
        wrapper = ComposedOptimWrapper(sgd(net), stages=dict(sam=dict(type='FriendlySAM', rho=first)))
        wrapper.stages['sam'].rho = 0.3
        assert wrapper.stages['sam'].rho == 0.3
        train(net, wrapper, make_batches(3))
    assert_same(*nets)


@pytest.mark.parametrize(
    'options',
    [dict(), dict(dtype='float32', loss_scale=dict(init_scale=1024.0, growth_interval=2))],
    ids=['plain', 'scaled'],
)
@pytest.mark.parametrize('accumulation', [1, 3])
def test_the_algorithm_written_out(accumulation, options):
    """One mean an update, of the whole update; the same whatever a loss scaler multiplies by."""
    rho, sigma, lmbda, lr, updates = 0.2, 0.8, 0.7, 0.05, 4
    batches = [
        dict(inputs=batch['inputs'].double(), data_samples=batch['data_samples'])
        for batch in make_batches(updates * accumulation)
    ]
    net = make_net(**DRY).double()
    run(
        net,
        batches,
        stage=dict(rho=rho, sigma=sigma, lmbda=lmbda),
        accumulative_counts=accumulation,
        **options,
    )

    other = make_net(**DRY).double()
    params = [param for name, param in other.named_parameters() if param.requires_grad and name != 'unused']
    flat = torch.nn.utils.parameters_to_vector

    def gradient(batch, weights):
        torch.nn.utils.vector_to_parameters(weights, params)
        loss = other.parse_losses(other(**batch))[0]
        return torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, params)])

    weights, mean = flat(params).detach().clone(), None
    for update in range(updates):
        whole, step = torch.zeros_like(weights), torch.zeros_like(weights)
        for batch in batches[update * accumulation : (update + 1) * accumulation]:
            grad = gradient(batch, weights)
            whole += grad / accumulation
            noise = grad if mean is None else grad - sigma * mean
            step += gradient(batch, weights + rho * noise / (noise.norm() + 1e-12)) / accumulation
        mean = whole if mean is None else lmbda * mean + (1 - lmbda) * whole
        weights = weights - lr * step
    found = flat([param for name, param in net.named_parameters() if param.requires_grad and name != 'unused'])
    torch.testing.assert_close(
        found.detach(), weights, rtol=0, atol=1e-9 if options else 1e-12
    )  # the loss scale is a float32 tensor


@pytest.mark.parametrize('stop', [1, 3, 4])
def test_a_resumed_run_ends_in_the_same_bits(stop):
    options, batches = dict(accumulative_counts=2), make_batches(8)
    straight, net, resumed = make_net(**DRY), make_net(**DRY), make_net(seed=9, **DRY)
    run(straight, batches, **options)
    wrapper = run(net, batches[:stop], total=8, **options)
    resumed.load_state_dict(net.state_dict())
    run(resumed, batches[stop:], start=stop, total=8, state=wrapper.state_dict(), **options)
    assert_same(resumed, straight)


def test_skipped_updates_leave_the_mean():
    """An overflow of the loss scaler, and a loss that is not finite."""
    net = make_net(**DRY)
    wrapper = run(net, make_batches(2), amp='float16', loss_scale=dict(init_scale=4.0), nonfinite_loss='skip')
    stage = wrapper.stages['sam']
    means = {i: mean.clone() for i, mean in stage.mean_gradient.items()}
    wrapper.loss_scaler.update(2.0**60)
    batch = make_batches(1)[0]
    net.train_step(batch, wrapper)
    net.train_step(dict(batch, inputs=batch['inputs'] * float('nan')), wrapper)
    assert wrapper.updates == 2
    assert stage.mean_gradient.keys() == means.keys()
    assert all(torch.equal(stage.mean_gradient[i], mean) for i, mean in means.items())
    wrapper.loss_scaler.update(4.0)
    net.train_step(batch, wrapper)
    assert wrapper.updates == 3
    assert all(mean.isfinite().all() for mean in stage.mean_gradient.values())
    assert not any(torch.equal(stage.mean_gradient[i], mean) for i, mean in means.items())
    assert not stage.first_gradient


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(rho=-1.0), r'expected rho in .* The authors use 0.2'),
        (dict(sigma=-1.0), 'expected sigma in'),
        (dict(lmbda=1.1), r'expected lmbda in \[0, 1\], got 1.1'),
        (dict(adaptive='weight'), 'expected adaptive to be one of'),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_in_friendly_sam(options, text):
    with pytest.raises(ValueError, match=text):
        FriendlySAM(**options)
