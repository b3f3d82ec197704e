"""CBAM against its equations in plain float64 (numpy), with the authors' batch normalisation."""

import numpy as np
import pytest
import torch
from fidelity_checks import assert_faithful

from hybridcls.apis.fidelity.module_cases import CBAM_FORMS
from hybridcls.models.modules import CBAM

MAP = torch.randn(3, 8, 5, 4, generator=torch.Generator().manual_seed(0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def channel_logits(module, x):
    """MLP(AvgPool(F)) + MLP(MaxPool(F)), equation 2."""
    first, _, second = module.channel_gate.mlp
    w1, b1, w2, b2 = (t.detach().double().numpy() for t in (first.weight, first.bias, second.weight, second.bias))
    total = 0
    for pooled in (x.mean((2, 3)), x.max((2, 3))):
        total = total + np.maximum(pooled @ w1.T + b1, 0) @ w2.T + b2
    return total


def spatial_logits(module, x, training):
    """BN(conv7x7([MaxPool over channels; AvgPool over channels])), equation 3, position by position."""
    kernel = module.spatial_gate.conv.weight.detach().double().numpy()[0]
    size = kernel.shape[-1]
    summary = np.stack([x.max(1), x.mean(1)], 1)
    padded = np.pad(summary, [(0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)])
    logits = np.zeros((len(x), *x.shape[2:]))
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            logits[:, row, column] = (padded[:, :, row : row + size, column : column + size] * kernel).sum((1, 2, 3))
    bn = module.spatial_gate.bn
    mean, var = (logits.mean(), logits.var()) if training else (bn.running_mean.item(), bn.running_var.item())
    return logits, (logits - mean) / np.sqrt(var + 1e-5) * bn.weight.item() + bn.bias.item()


def by_hand(module, x, training, gain=1.0):
    x = x.double().numpy()
    x = x * gain * sigmoid(channel_logits(module, x))[:, :, None, None]
    raw, logits = spatial_logits(module, x, training)
    return x * gain * sigmoid(logits)[:, None], raw


def random_cbam(**keys):
    torch.manual_seed(1)
    module = CBAM(8, reduction=2, **keys)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize('kernel_size', [3, 7])
@pytest.mark.parametrize(('identity_init', 'gain'), [(False, 1.0), (True, 2.0)])
def test_formula(kernel_size, identity_init, gain):
    module = random_cbam(kernel_size=kernel_size, identity_init=identity_init)
    module.spatial_gate.bn.running_mean.fill_(0.3)
    module.spatial_gate.bn.running_var.fill_(0.7)
    expected, _ = by_hand(module.eval(), MAP, training=False, gain=gain)
    np.testing.assert_allclose(module(MAP).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_official_numbers():
    assert_faithful('CBAM')


@pytest.mark.parametrize('keys', CBAM_FORMS, ids=str)
def test_every_form_starts_as_the_identity(keys):
    torch.testing.assert_close(CBAM(8, reduction=4, **keys)(MAP), MAP, rtol=0, atol=0)


def test_running_statistics_move_by_a_hundredth():
    module = random_cbam(identity_init=False).train()
    expected, raw = by_hand(module, MAP, training=True)
    np.testing.assert_allclose(module(MAP).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    bn = module.spatial_gate.bn
    np.testing.assert_allclose(bn.running_mean.item(), 0.01 * raw.mean(), rtol=1e-4)
    np.testing.assert_allclose(bn.running_var.item(), 0.99 + 0.01 * raw.var(ddof=1), rtol=1e-5)


@pytest.mark.parametrize('training', [True, False])
def test_starts_as_the_identity(training):
    module = CBAM(8, reduction=4).train(training)
    torch.testing.assert_close(module(MAP), MAP, rtol=0, atol=0)
    assert (CBAM(8, identity_init=False).train(training)(MAP) - MAP).abs().max() > 0.1  # the paper's start does not


def test_leaves_the_identity_by_training():
    torch.manual_seed(0)
    module = CBAM(8, reduction=4)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    before = {name: value.clone() for name, value in module.named_parameters()}
    target = MAP.roll(1, dims=0)
    for _ in range(2):  # only the last layers have a gradient in the first step
        optimizer.zero_grad()
        (module(MAP) - target).square().mean().backward()
        optimizer.step()
    assert all((value != before[name]).any() for name, value in module.named_parameters())


def test_as_many_parameters_as_the_authors_module():
    """The shared MLP has biases, the convolution has none; 2 x (C x C/r) + C/r + C, 2 x 7 x 7, and the norm's 2."""
    count = sum(p.numel() for p in CBAM(64, reduction=16).parameters())
    assert count == 2 * 64 * 4 + 4 + 64 + 2 * 49 + 2


def test_batch_of_one_on_one_position():
    module = random_cbam(identity_init=False).train()
    one = MAP[:1, :, :1, :1].clone().requires_grad_()
    expected, _ = by_hand(module, one.detach(), training=False)
    out = module(one)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert module.spatial_gate.bn.running_mean.item() == 0
    out.sum().backward()
    assert one.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_keeps_the_type_under_autocast(dtype):
    module = random_cbam().eval()
    with torch.autocast('cpu', dtype):
        out = module(MAP.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), module(MAP), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(channels=0), r'expected channels in .* got 0'),
        (dict(channels=8, reduction=0), r'expected reduction in .* got 0'),
        (dict(channels=8, kernel_size=4), 'kernel_size=4 is even.*Use 3 or 5'),
        (dict(channels=8, kernel_size=0), r'expected kernel_size in .* got 0'),
        (dict(channels=8, pool_types=['mean']), "pool_types to be one of .*, got 'mean'"),
        (dict(channels=8, pool_types=['avg', 'avg']), 'expected a list of different pools'),
        (dict(channels=8, pool_types=[]), 'expected a list of different pools'),
        (dict(channels=8, use_channel=False, use_spatial=False), 'expected one gate at least'),
    ],
)
def test_numbers_out_of_range(keys, message):
    with pytest.raises(ValueError, match=message):
        CBAM(**keys)


def test_fewer_channels_than_the_reduction():
    assert CBAM(4, reduction=16).channel_gate.mlp[0].out_features == 1
