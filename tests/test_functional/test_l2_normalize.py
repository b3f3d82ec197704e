import pytest
import torch

from hybridcls.functional.l2_normalize import l2_normalize


def test_rows_have_length_one_and_lengths_are_told():
    rows = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    unit, lengths = l2_normalize(rows)
    torch.testing.assert_close(unit, torch.nn.functional.normalize(rows))
    torch.testing.assert_close(lengths, rows.norm(dim=1))
    assert torch.autograd.gradcheck(lambda r: l2_normalize(r), rows)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_a_zero_row_stays_zero_with_gradient_zero(dtype):
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    unit, lengths = l2_normalize(rows)
    (unit[:, 0].sum() + lengths.sum()).backward()
    assert unit.dtype == torch.float32
    assert unit[0].tolist() == [0.0, 0.0]
    assert rows.grad[0].tolist() == [0.0, 0.0]
    assert rows.grad.isfinite().all()


def test_half_precision_that_would_overflow_when_squared():
    unit, lengths = l2_normalize(torch.full((1, 4), 6e4, dtype=torch.float16))
    torch.testing.assert_close(unit, torch.full((1, 4), 0.5))
    assert lengths.isfinite().all()


def test_nan_is_not_hidden():
    assert l2_normalize(torch.tensor([[float('nan'), 1.0]]))[0].isnan().all()
