"""Rows of length one, and the lengths that they had."""

import math

import torch
from torch import Tensor

from .full_precision import at_least_float32

__all__ = ['inverse_norms', 'l2_normalize']

# Shorter rows have no direction that float32 could tell: their squares underflow.
_SHORTEST = 1e-12


def l2_normalize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each row by its Euclidean length.

    ``torch.nn.functional.normalize`` answers a zero row with a gradient of 1e12 times the incoming one, which is
    infinite in half precision. Here a row without a direction stays zero and gets the gradient zero.

    Args:
        rows (Tensor): Shape (..., D), any floating dtype.

    Returns:
        tuple[Tensor, Tensor]: The unit rows, shape (..., D), and the lengths, shape (...,), both float32 or, for a
        float64 input, float64. Both carry gradients.

    Example:
        >>> unit, length = l2_normalize(torch.tensor([[3., 4.], [0., 0.]]))
        >>> unit
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
        >>> length
        tensor([5., 0.])
    """
    rows = at_least_float32(rows)
    lengths = torch.linalg.vector_norm(rows, dim=-1)
    # 1 / inf is zero in the value and in the gradient; NaN rows stay NaN and are seen. The gradient of a product needs
    # fewer tensors of the size of the rows than that of a quotient.
    return rows * lengths.masked_fill(lengths <= _SHORTEST, math.inf).reciprocal().unsqueeze(-1), lengths


def inverse_norms(rows: Tensor) -> Tensor:
    """What :func:`l2_normalize` multiplies each row with: one over its length, 0 for a row without a direction.

    Args:
        rows (Tensor): Shape (..., D), float32 or float64.

    Returns:
        Tensor: Shape (...,), dtype of ``rows``.

    Example:
        >>> inverse_norms(torch.tensor([[3., 4.], [0., 0.]]))
        tensor([0.2000, 0.0000])
    """
    lengths = torch.linalg.vector_norm(rows, dim=-1)
    return lengths.masked_fill_(lengths <= _SHORTEST, math.inf).reciprocal_()
