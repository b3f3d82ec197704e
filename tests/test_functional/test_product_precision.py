import pytest
import torch

from hybridcls.functional.full_precision import tf32_products
from hybridcls.functional.product_precision import (
    PRODUCT_PRECISIONS,
    add_product_,
    is_exact,
    multiply,
    product,
    rounded,
)


def operands(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in ((5, 7), (7, 3)))


def to_eight_bits(tensor):
    """Round to bfloat16 by hand: 8 bits of fraction, ties to even."""
    fraction, exponent = torch.frexp(tensor.double())
    return torch.ldexp((fraction * 2**8).round() / 2**8, exponent)


def test_bfloat16_rounds_operands_and_keeps_sums():
    left, right = operands()
    expected = to_eight_bits(left) @ to_eight_bits(right)
    found = multiply(rounded(left, 'bfloat16'), rounded(right, 'bfloat16'), 'bfloat16')
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert (found - left @ right).abs().max() > 1e-3
    total = torch.ones(5, 3)
    add_product_(total, rounded(left, 'bfloat16'), rounded(right, 'bfloat16'), 'bfloat16')
    torch.testing.assert_close(total.double(), expected + 1, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('precision', PRODUCT_PRECISIONS)
def test_what_is_exact(precision):
    left, right = operands()
    assert is_exact(precision, left) == (precision != 'bfloat16')  # a CPU has no TF32
    assert is_exact(precision, torch.empty(0, device='meta')) == (precision != 'bfloat16')
    torch.testing.assert_close(
        product(left, right, precision), left @ right, rtol=0, atol=0.05 if precision == 'bfloat16' else 0
    )
    left, right = operands(torch.float64)
    assert is_exact(precision, left)
    assert rounded(left, precision) is left
    torch.testing.assert_close(product(left, right, precision), left @ right, rtol=0, atol=0)


def test_gradients_are_products_of_the_same_precision():
    left, right = (tensor.requires_grad_() for tensor in operands())
    grad = torch.linspace(-1, 1, 15).reshape(5, 3)
    found = torch.autograd.grad(product(left, right, 'bfloat16'), (left, right), grad)
    expected = to_eight_bits(grad) @ to_eight_bits(right).t(), to_eight_bits(left).t() @ to_eight_bits(grad)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-5, atol=1e-6)


def test_second_derivative():
    left, right = (tensor.requires_grad_() for tensor in operands())
    for precision in ('float32', 'bfloat16'):
        (first,) = torch.autograd.grad(product(left, right, precision).square().sum(), left, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), left)
        torch.testing.assert_close(
            second, 2 * (right @ right.t()).sum(0).expand_as(left), rtol=0.05, atol=0.3 if precision != 'float32' else 0
        )


def test_a_graph_holds_torchs_own_product():
    left, right = (tensor.requires_grad_() for tensor in operands())
    assert product(left, right, 'tf32').grad_fn.name() == 'MmBackward0'


@pytest.mark.parametrize('before', ['highest', 'high', 'medium'])
@pytest.mark.parametrize('enabled', [True, False])
def test_the_switch_is_restored(before, enabled):
    old = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with tf32_products(enabled, 'cuda'):
            assert torch.backends.cuda.matmul.allow_tf32 is enabled
        assert torch.get_float32_matmul_precision() == before
        with tf32_products(not enabled, 'cpu'):
            assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(old)


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, 'fp32_precision'), reason='torch before 2.9')
def test_the_switch_of_newer_torch_is_restored():
    matmul = torch.backends.cuda.matmul
    old = matmul.fp32_precision
    try:
        matmul.fp32_precision = 'tf32'
        with tf32_products(False, 'cuda'):
            assert matmul.fp32_precision == 'ieee'
        assert matmul.fp32_precision == 'tf32'
    finally:
        matmul.fp32_precision = old


@pytest.mark.gpu
@pytest.mark.parametrize(('precision', 'error'), [('float32', 1e-6), ('tf32', 2e-3), ('bfloat16', 1e-2)])
@pytest.mark.parametrize('switched_on', [True, False])
def test_on_a_gpu(precision, error, switched_on):
    left, right = (torch.randn(256, 256, device='cuda') for _ in range(2))
    exact = left.double() @ right.double()
    with tf32_products(switched_on, 'cuda'):
        found = product(left, right, precision)
    wrong = float((found.double() - exact).norm() / exact.norm())
    assert error / 50 < wrong < error
    assert found.dtype == torch.float32
