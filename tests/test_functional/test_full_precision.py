import pytest
import torch

from hybridcls.functional.full_precision import (
    at_least_float32,
    outside_autocast,
    tf32_convolutions,
    tf32_products,
    to_float64,
)

NEW_KEYS = pytest.mark.skipif(not hasattr(torch.backends.cudnn, 'conv'), reason='torch 2.9 has them first')


def test_products_stay_float32_under_autocast():
    a = torch.randn(3, 3)
    with torch.autocast('cpu', torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with outside_autocast(a):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
    with outside_autocast(a):
        assert not torch.is_autocast_enabled('cpu')


def test_only_lower_precision_is_raised():
    for dtype, expected in [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        assert at_least_float32(torch.ones(1, dtype=dtype)).dtype == expected


@pytest.mark.gpu
def test_neither_autocast_nor_tf32_touches_a_gpu():
    a = torch.randn(64, 64, device='cuda')
    exact = a.double() @ a.double()
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with torch.autocast('cuda', torch.bfloat16), outside_autocast(a):
            assert float((a @ a - exact).norm() / exact.norm()) < 1e-6
        assert float((a @ a - exact).norm() / exact.norm()) > 1e-5
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize('keys', ['old', pytest.param('new', marks=NEW_KEYS)])
def test_tf32_is_switched_by_either_of_torchs_keys_and_back(keys):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        if keys == 'new':  # with which torch refuses to tell of the old ones
            matmul.fp32_precision, cudnn.conv.fp32_precision = 'ieee', 'tf32'
            cudnn.rnn.fp32_precision = 'ieee'
            with pytest.raises(RuntimeError):
                cudnn.allow_tf32  # noqa: B018
        else:
            matmul.allow_tf32, cudnn.allow_tf32 = False, True

        def now():
            if keys == 'new':
                return matmul.fp32_precision == 'tf32', cudnn.conv.fp32_precision == 'tf32'
            return matmul.allow_tf32, cudnn.allow_tf32

        with tf32_products(True, 'cuda'), tf32_convolutions(False, 'cuda'):
            assert now() == (True, False)
        with tf32_products(True, 'cpu'), tf32_convolutions(False, 'cpu'):
            assert now() == (False, True)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_float64_by_way_of_the_cpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr('hybridcls.functional.full_precision.WITHOUT_FLOAT64', {'meta'})
    seen = []
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda tensor: seen.append(tensor) or torch.zeros(2))
    assert to_float64(torch.ones(2, device='meta')).tolist() == [0.0, 0.0]
    assert to_float64(torch.ones(2)).tolist() == [1.0, 1.0]
    assert len(seen) == 1
