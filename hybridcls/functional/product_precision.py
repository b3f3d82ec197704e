"""Matrix products with rounded operands and float32 sums."""

from typing import Any, Optional

import torch
from torch import Tensor

from .full_precision import tf32_products

__all__ = ['PRODUCT_PRECISIONS', 'add_product_', 'is_exact', 'multiply', 'product', 'rounded']

PRODUCT_PRECISIONS = ('float32', 'tf32', 'bfloat16')

# torch 2.8 and newer multiply bfloat16 to float32; before, the result is rounded to bfloat16 as well.
_TO_FLOAT32 = hasattr(torch.ops.aten.mm, 'dtype_out')


def is_exact(precision: str, tensor: Tensor) -> bool:
    """Return whether products of a tensor like this one are rounded no further than its own dtype.

    Args:
        precision (str): One of ``PRODUCT_PRECISIONS``.
        tensor (Tensor): An operand: its device and dtype count. float64 is never rounded; TF32 is CUDA's.
    """
    if tensor.dtype == torch.float64:
        return True
    return precision == 'float32' or (precision == 'tf32' and tensor.device.type != 'cuda')


def rounded(tensor: Tensor, precision: str) -> Tensor:
    """Round an operand for :func:`multiply`, once for several products; without gradient.

    Args:
        tensor (Tensor): float32 or float64.
        precision (str): One of ``PRODUCT_PRECISIONS``.

    Returns:
        Tensor: For 'bfloat16' the tensor in that dtype where the device multiplies it to float32, else float32 whose
        values are rounded, which gives the same products. Otherwise the tensor itself: the tensor cores round to TF32.

    Example:
        >>> rounded(torch.tensor([1.001]), 'bfloat16')
        tensor([1.])
    """
    if precision != 'bfloat16' or tensor.dtype == torch.float64:
        return tensor
    half = tensor.bfloat16()
    return half if tensor.device.type == 'cuda' and _TO_FLOAT32 else half.to(tensor.dtype)


def multiply(left: Tensor, right: Tensor, precision: str, out: Optional[Tensor] = None) -> Tensor:
    """Multiply two matrices from :func:`rounded`; sums and result are float32 (or float64). Without gradient.

    Args:
        left (Tensor): Shape (N, K).
        right (Tensor): Shape (K, M).
        precision (str): One of ``PRODUCT_PRECISIONS``.
        out (Tensor, optional): Where to write, shape (N, M).

    Example:
        >>> multiply(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0], [3.0]]), 'float32')
        tensor([[5.]])
    """
    if left.dtype == torch.bfloat16:
        return torch.mm(left, right, out_dtype=torch.float32, out=out)  # type: ignore[call-overload]
    with tf32_products(precision != 'float32', left.device.type):  # which holds all of a rounded bfloat16
        return torch.mm(left, right, out=out)


def add_product_(total: Tensor, left: Tensor, right: Tensor, precision: str) -> Tensor:
    """Add :func:`multiply` of two matrices to ``total``, shape (N, M), in place."""
    if left.dtype == torch.bfloat16:
        return total.add_(multiply(left, right, precision))
    with tf32_products(precision != 'float32', left.device.type):
        return total.addmm_(left, right)


def product(left: Tensor, right: Tensor, precision: str = 'float32') -> Tensor:
    """Multiply two matrices in a precision, with gradients and second derivatives in the same precision.

    Args:
        left (Tensor): Shape (N, K), float32 or float64.
        right (Tensor): Shape (K, M), the same dtype.
        precision (str): One of ``PRODUCT_PRECISIONS``. Compiled or exported, 'float32' and 'tf32' follow torch's own
            switch: a graph cannot set it.

    Returns:
        Tensor: Shape (N, M), of the dtype of the operands.

    Example:
        >>> product(torch.tensor([[1.001]]), torch.tensor([[2.0]]), 'bfloat16')
        tensor([[2.]])
    """
    graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_exact(precision, left) and (graph or left.device.type != 'cuda'):
        return left @ right  # torch's own graph, to trace and to export
    return _Product.apply(left, right, precision)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, precision: str) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.precision = precision
        return multiply(rounded(left, precision), rounded(right, precision), precision)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], Optional[Tensor], None]:
        left, right = ctx.saved_tensors
        to_left = product(grad, right.t(), ctx.precision) if ctx.needs_input_grad[0] else None
        to_right = product(left.t(), grad, ctx.precision) if ctx.needs_input_grad[1] else None
        return to_left, to_right, None
