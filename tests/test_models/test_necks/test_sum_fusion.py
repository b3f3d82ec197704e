import pytest
import torch

from hybridcls.models.necks import SumFusion

MAP, VECTOR = torch.randn(3, 8, 2, 4), torch.randn(3, 4)


def test_sum_of_projections():
    neck = SumFusion(in_channels=(8, 4), fusion_dim=5)
    cnn, vit = neck.project
    expected = MAP.mean((2, 3)) @ cnn.weight.T + cnn.bias + VECTOR @ vit.weight.T + vit.bias
    torch.testing.assert_close(neck((MAP, VECTOR))[0], expected)
    assert neck.out_channels == 5


def test_it_is_a_projection_of_the_concatenation():
    """[A B] [x; y] = A x + B y: one of the three rivals is another's reparametrisation."""
    neck = SumFusion(in_channels=(8, 4), fusion_dim=5)
    weight = torch.cat([layer.weight for layer in neck.project], 1)
    bias = sum(layer.bias for layer in neck.project)
    joined = torch.cat([MAP.mean((2, 3)), VECTOR], 1)
    torch.testing.assert_close(neck((MAP, VECTOR))[0], joined @ weight.T + bias)


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match=r'expected fusion_dim in .* got 0'):
        SumFusion(in_channels=(8, 4), fusion_dim=0)
