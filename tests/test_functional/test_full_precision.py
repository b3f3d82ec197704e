import pytest
import torch

from hybridcls.functional.full_precision import at_least_float32, outside_autocast


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
