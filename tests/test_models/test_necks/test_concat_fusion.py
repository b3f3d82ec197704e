import pytest
import torch

from hybridcls.models.necks import ConcatFusion

MAP, VECTOR = torch.randn(3, 8, 2, 4), torch.randn(3, 4)


def test_side_by_side():
    neck = ConcatFusion(in_channels=(8, 4), fusion_dim=None)
    torch.testing.assert_close(neck((MAP, VECTOR))[0], torch.cat([MAP.mean((2, 3)), VECTOR], 1))
    assert neck.out_channels == 12
    assert not list(neck.parameters())


def test_projected():
    neck = ConcatFusion(in_channels=(8, 4), fusion_dim=5)
    joined = torch.cat([MAP.mean((2, 3)), VECTOR], 1)
    torch.testing.assert_close(neck((MAP, VECTOR))[0], joined @ neck.project.weight.T + neck.project.bias)
    assert neck.out_channels == 5
    with pytest.raises(ValueError, match=r'expected fusion_dim in .* got 0'):
        ConcatFusion(in_channels=(8, 4), fusion_dim=0)
