import pytest
import torch

from hybridcls.functional import pool_feature


def test_one_vector_an_image():
    rows = torch.arange(24.0).reshape(1, 2, 3, 4)
    torch.testing.assert_close(pool_feature(rows), torch.tensor([[5.5, 17.5]]))  # a map: over its positions
    torch.testing.assert_close(
        pool_feature(rows[0]), torch.tensor([[4.0, 5.0, 6.0, 7.0], [16.0, 17.0, 18.0, 19.0]])
    )  # tokens
    assert pool_feature(rows[0, 0]) is not None
    torch.testing.assert_close(pool_feature(rows[0, 0]), rows[0, 0])


def test_other_shapes():
    with pytest.raises(ValueError, match=r'shape \(4,\) is neither a \(B, C, H, W\) map'):
        pool_feature(torch.ones(4))
