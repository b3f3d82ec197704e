import pytest
import torch
from torch import nn

from hybridcls.registry import MODELS


def build(**keys):
    return MODELS.build(dict(type='ProjectionMLP', **keys))


def test_default_is_the_two_layers_of_supcon():
    projection = build(in_channels=6)
    first, relu, second = projection.mlp
    assert isinstance(relu, nn.ReLU)
    embedding = torch.randn(3, 6)
    by_hand = torch.relu(embedding @ first.weight.t() + first.bias) @ second.weight.t() + second.bias
    torch.testing.assert_close(projection(embedding), by_hand)
    assert (first.out_features, second.out_features, projection.out_channels) == (6, 128, 128)


@pytest.mark.parametrize('layers', [1, 2, 3])
@pytest.mark.parametrize('norm', [None, dict(type='BN1d'), dict(type='LN')])
def test_layers_and_norm(layers, norm):
    projection = build(in_channels=6, hid_channels=5, out_channels=4, num_layers=layers, norm_cfg=norm)
    linear = [module for module in projection.modules() if isinstance(module, nn.Linear)]
    norms = [module for module in projection.modules() if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm))]
    assert [layer.out_features for layer in linear] == [5] * (layers - 1) + [4]
    assert [layer.bias is None for layer in linear] == [norm is not None] * (layers - 1) + [False]
    assert len(norms) == (layers - 1 if norm else 0)
    assert projection(torch.randn(3, 6)).shape == (3, 4)


@pytest.mark.parametrize('keys', [dict(hid_channels=0), dict(out_channels=-1), dict(num_layers=0), dict(in_channels=0)])
def test_widths_below_one(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'ProjectionMLP: expected {name} '):
        build(**{'in_channels': 4, **keys})
