"""DHAFusion against its equations in plain float64 (numpy)."""

import numpy as np
import pytest
import torch

from hybridcls.models.necks import DHAFusion

MAP = torch.randn(3, 8, 2, 4, generator=torch.Generator().manual_seed(0))
VECTOR = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def build(**keys):
    torch.manual_seed(2)
    return DHAFusion(**{'in_channels': (8, 4), 'fusion_dim': 6, **keys})


def by_hand(neck, features):
    """Z = [pool(F_cnn) || F_vit]; a = sigmoid(W2 relu(W1 Z)); W (Z * a). Returns the embedding and a."""
    vectors = [f.double().numpy() for f in features]
    vectors = [v.mean((2, 3)) if v.ndim == 4 else v.mean(1) if v.ndim == 3 else v for v in vectors]
    joined = np.concatenate(vectors, 1)
    w1, b1, w2, b2, w, b = (
        t.detach().double().numpy()
        for layer in (neck.gate[0], neck.gate[2], neck.project)
        for t in (layer.weight, layer.bias)
    )
    gate = 1 / (1 + np.exp(-(np.maximum(joined @ w1.T + b1, 0) @ w2.T + b2)))
    return (joined * gate) @ w.T + b, gate


@pytest.mark.parametrize(
    'features',
    [(MAP, VECTOR), (MAP, VECTOR[:, None].repeat(1, 5, 1)), (MAP.mean((2, 3)), VECTOR)],
    ids=['map', 'tokens', 'vectors'],
)
def test_formula(features):
    neck = build()
    expected, gate = by_hand(neck, features)
    (embedding,) = neck(features)
    np.testing.assert_allclose(embedding.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    gates = neck.gates(features)
    assert [tuple(g.shape) for g in gates] == [(3, 8), (3, 4)]
    np.testing.assert_allclose(torch.cat(gates, 1).detach().numpy(), gate, rtol=1e-5, atol=1e-6)


def test_gates_can_be_watched_while_training():
    neck, seen = build(), []
    neck.gate.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    neck((MAP, VECTOR))
    torch.testing.assert_close(seen[0], torch.cat(neck.gates((MAP, VECTOR)), 1).detach())
    assert seen[0].min() > 0
    assert seen[0].max() < 1


def test_each_channels_gate_depends_on_the_other_stream():
    neck = build()
    cnn = neck.gates((MAP, VECTOR))[0]
    assert (neck.gates((MAP, VECTOR + 1))[0] - cnn).abs().max() > 1e-4


def test_size_of_the_gate():
    assert build(reduction=3).gate[0].out_features == 4
    assert build(reduction=100).gate[0].out_features == 1
    assert build().out_channels == 6


def test_everything_learns_and_autocast_is_finite():
    neck = build()
    with torch.autocast('cpu', torch.bfloat16):
        (embedding,) = neck((MAP, VECTOR))
    torch.testing.assert_close(embedding.float(), neck((MAP, VECTOR))[0], rtol=0.05, atol=0.05)
    embedding.float().square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in neck.parameters())


def test_one_stream_and_three():
    assert DHAFusion(in_channels=8, fusion_dim=6)(MAP)[0].shape == (3, 6)
    assert DHAFusion(in_channels=(8, 4, 4), fusion_dim=6)((MAP, VECTOR, VECTOR))[0].shape == (3, 6)


def test_numbers_out_of_range():
    for keys in (dict(fusion_dim=0), dict(reduction=0)):
        with pytest.raises(ValueError, match=next(iter(keys))):
            build(**keys)
