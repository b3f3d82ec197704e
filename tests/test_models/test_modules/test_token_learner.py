"""TokenLearner against the authors' formulas (scenic, projects/token_learner/model.py), written in plain float64."""

import math

import numpy as np
import pytest
import torch

from hybridcls.models.modules import TokenLearner

TOKENS = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0))


def gelu(x):
    """jax.nn.gelu: the tanh form is its default."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, norm):
    """flax.linen.LayerNorm: epsilon 1e-6."""
    weight, bias = (t.detach().double().numpy() for t in (norm.weight, norm.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * weight + bias


def double(tensor):
    return tensor.detach().double().numpy()


def by_hand_v11(module, x, normed=True):
    first, _, _, second, _ = module.attention
    hidden = gelu((layer_norm(x, module.norm) if normed else x) @ double(first.weight).T + double(first.bias))
    logits = (hidden @ double(second.weight).T + double(second.bias)).transpose(0, 2, 1)  # (B, K, N)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum('bkn,bnc->bkc', shares / shares.sum(-1, keepdims=True), x)


def convolve(x, weight):
    """A 3 x 3 convolution with zeros around, channels last: (B, H, W, C) -> (B, H, W, K)."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    out = 0
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
            out = out + window @ weight[:, :, row, column].T
    return out


def by_hand_v1(module, x, height, width):
    maps = layer_norm(x, module.norm).reshape(len(x), height, width, -1)
    convolutions = [layer for layer in module.attention if isinstance(layer, torch.nn.Conv2d)]
    for number, layer in enumerate(convolutions):
        maps = convolve(maps, double(layer.weight))
        maps = gelu(maps) if number < 3 else 1 / (1 + np.exp(-maps))
    return np.einsum('bnk,bnc->bkc', maps.reshape(len(x), height * width, -1), x)  # a sum, not a mean


def build(**keys):
    torch.manual_seed(0)
    module = TokenLearner(6, **{'num_tokens': 4, **keys})
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return module.eval()


def test_version_11():
    module = build(hidden=5)
    np.testing.assert_allclose(
        module(TOKENS).detach().numpy(), by_hand_v11(module, double(TOKENS)), rtol=1e-4, atol=1e-5
    )
    assert isinstance(module.output_norm, torch.nn.Identity)
    torch.testing.assert_close(module.weights(TOKENS).sum(-1), torch.ones(2, 4))  # over positions, not over tokens


def test_the_plain_form_has_no_norm():
    module = build(form='plain', hidden=5)
    np.testing.assert_allclose(
        module(TOKENS).detach().numpy(), by_hand_v11(module, double(TOKENS), normed=False), rtol=1e-4, atol=1e-5
    )
    assert not any(isinstance(part, torch.nn.LayerNorm) for part in module.modules())


def test_version_1_with_a_mean():
    module = build(form='v1', pooling='mean')
    np.testing.assert_allclose(
        module(TOKENS).detach().numpy(), by_hand_v1(module, double(TOKENS), 3, 3) / 9, rtol=1e-4, atol=1e-5
    )
    assert isinstance(module.output_norm, torch.nn.Identity)


def test_version_1():
    module = build(form='v1', output_norm=False)
    np.testing.assert_allclose(
        module(TOKENS).detach().numpy(), by_hand_v1(module, double(TOKENS), 3, 3), rtol=1e-4, atol=1e-5
    )
    assert all(layer.bias is None for layer in module.attention if isinstance(layer, torch.nn.Conv2d))


def test_version_1_has_a_norm_after_its_sums():
    module = build(form='v1')
    expected = layer_norm(by_hand_v1(module, double(TOKENS), 3, 3), module.output_norm)
    np.testing.assert_allclose(module(TOKENS).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('form', ['v1', 'v1.1', 'plain'])
def test_a_map_is_the_same_as_its_tokens(form):
    module = build(form=form)
    as_map = TOKENS.transpose(1, 2).unflatten(2, (3, 3))
    torch.testing.assert_close(module(as_map), module(TOKENS))


def test_maps_that_are_not_square():
    module, wide = build(form='v1', output_norm=False), TOKENS[:, :8]
    expected = by_hand_v1(module, double(wide), 2, 4)
    np.testing.assert_allclose(
        module(wide.transpose(1, 2).unflatten(2, (2, 4))).detach().numpy(), expected, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="form='v1' convolves over a grid, and 8 tokens form no square"):
        module(wide)
    assert build()(wide).shape == (2, 4, 6)


def test_dropout_only_while_training():
    module = build(dropout=0.5)
    torch.testing.assert_close(module(TOKENS), module(TOKENS), rtol=0, atol=0)
    module.train()
    assert (module(TOKENS) - module(TOKENS)).abs().max() > 1e-3


@pytest.mark.parametrize('form', ['v1', 'v1.1', 'plain'])
def test_half_precision_and_gradients(form):
    module = build(form=form).train()
    with torch.autocast('cpu', torch.bfloat16):
        out = module(TOKENS.bfloat16())
    torch.testing.assert_close(out.float(), module(TOKENS), rtol=0.1, atol=0.1)
    module(TOKENS).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for name, p in module.named_parameters())


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(num_tokens=0), r'expected num_tokens in .* got 0'),
        (dict(form='v2'), "expected form to be one of .*, got 'v2'"),
        (dict(dropout=1.0), r'expected dropout in .* got 1'),
        (dict(hidden=0), r'expected hidden in .* got 0'),
        (dict(pooling='max'), "expected pooling to be one of .*, got 'max'"),
        (dict(pooling='mean'), "pooling='mean' belongs to form='v1', got form='v1.1'"),
    ],
)
def test_numbers_out_of_range(keys, message):
    with pytest.raises(ValueError, match=message):
        TokenLearner(6, **keys)
