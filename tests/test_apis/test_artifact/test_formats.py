"""What ONNX lacks is computed as PyTorch and scipy compute it."""

import numpy as np
import pytest
import torch
from scipy.special import digamma as scipys
from torch.nn import functional as F

from hybridcls.apis.artifact.formats import check_format, digamma, plain_attention


def test_digamma_is_scipys():
    x = np.concatenate([np.linspace(1, 20, 2000), np.logspace(0, 12, 500)])
    np.testing.assert_allclose(digamma(torch.from_numpy(x)).numpy(), scipys(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize('mask', [None, 'added', 'boolean'])
@pytest.mark.parametrize('scale', [None, 0.3])
def test_attention_is_torchs(mask, scale):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8, dtype=torch.float64)
    given = dict(added=torch.randn(2, 1, 7, 7, dtype=torch.float64), boolean=torch.rand(7, 7) > 0.3).get(mask)
    expected = F.scaled_dot_product_attention(query, key, value, given, scale=scale)
    torch.testing.assert_close(plain_attention(query, key, value, given, scale=scale), expected)
    with pytest.raises(ValueError, match='causal'):
        plain_attention(query, key, value, is_causal=True)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"package onnx for --format onnx.* pip install 'hybridcls\[export\]'"):
        check_format('onnx')
    check_format('torch_export')
