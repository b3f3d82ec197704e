"""TokenFuser against the authors' formula (scenic, projects/token_learner/model.py), written in plain float64."""

import math

import numpy as np
import pytest
import torch

from hybridcls.models.modules import TokenFuser

GENERATOR = torch.Generator().manual_seed(0)
TOKENS, POSITIONS = torch.randn(2, 3, 6, generator=GENERATOR), torch.randn(2, 8, 6, generator=GENERATOR)


def double(tensor):
    return tensor.detach().double().numpy()


def layer_norm(x, norm):
    """flax.linen.LayerNorm: epsilon 1e-6."""
    shift = x - x.mean(-1, keepdims=True)
    return shift / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * double(norm.weight) + double(norm.bias)


def by_hand(module, tokens, x, use_norm):
    def norm(name, rows):
        return layer_norm(rows, getattr(module, name)) if use_norm else rows

    weight = double(module.mix.weight)  # (to, from), over the summaries
    mixed = np.einsum('jk,bkc->bjc', weight, norm('norm_before', tokens)) + double(module.mix.bias)[:, None]
    mixed = norm('norm_after', mixed)
    first, second = module.attention[0], module.attention[3]
    hidden = layer_norm(x, module.norm) @ double(first.weight).T + double(first.bias)
    hidden = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    shares = 1 / (1 + np.exp(-(hidden @ double(second.weight).T + double(second.bias))))  # (B, N, K)
    return shares @ mixed


@pytest.mark.parametrize('use_norm', [True, False])
def test_formula(use_norm):
    module = TokenFuser(6, num_tokens=3, hidden=5, use_norm=use_norm)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    expected = by_hand(module, double(TOKENS), double(POSITIONS), use_norm)
    out = module(TOKENS, POSITIONS)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    as_map = POSITIONS.transpose(1, 2).unflatten(2, (2, 4))
    torch.testing.assert_close(module(TOKENS, as_map), out.transpose(1, 2).unflatten(2, (2, 4)))


def test_starts_as_nothing_and_leaves_it_by_training():
    module = TokenFuser(6, num_tokens=3, hidden=5)
    assert module(TOKENS, POSITIONS).abs().max() == 0
    (module(TOKENS, POSITIONS) - POSITIONS).square().sum().backward()
    assert module.mix.weight.grad.isfinite().all()
    assert module.mix.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(channels=0), r'expected channels in .* got 0'),
        (dict(channels=6, num_tokens=0), r'expected num_tokens in .* got 0'),
        (dict(channels=6, hidden=0), r'expected hidden in .* got 0'),
        (dict(channels=6, dropout=1.0), r'expected dropout in .* got 1'),
    ],
)
def test_numbers_out_of_range(keys, message):
    with pytest.raises(ValueError, match=f'TokenFuser: {message}'):
        TokenFuser(**keys)
