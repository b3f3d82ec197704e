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
