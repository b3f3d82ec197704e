"""L2-normalize rows, with gradients that stay finite at zero."""

import math

import torch
from torch import Tensor

from .full_precision import at_least_float32

__all__ = ['inverse_norms', 'l2_normalize']

# Shorter rows have no direction that float32 could tell: their squares underflow.
SHORTEST = 1e-12


def l2_normalize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each row by its Euclidean norm.

    ``torch.nn.functional.normalize`` answers a zero row with a gradient of 1e12 times the incoming one, which is
    infinite in half precision. Here a row without a direction stays zero and gets the gradient zero.

    Args:
        rows (Tensor): Shape (..., D), any floating dtype.

    Returns:
        tuple[Tensor, Tensor]: The L2-normalized rows, shape (..., D), and the norms, shape (...,), both float32 or,
        for a float64 input, float64. Both carry gradients.

    Example:
        >>> unit, norm = l2_normalize(torch.tensor([[3., 4.], [0., 0.]]))
        >>> unit
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
        >>> norm
        tensor([5., 0.])
    """
    rows = at_least_float32(rows)
    norms = torch.linalg.vector_norm(rows, dim=-1)
    # 1 / inf is zero in the value and in the gradient; NaN rows stay NaN and are seen. The gradient of a product needs
    # fewer tensors of the size of the rows than that of a quotient.
    return rows * norms.masked_fill(norms <= SHORTEST, math.inf).reciprocal().unsqueeze(-1), norms


def inverse_norms(rows: Tensor) -> Tensor:
    """Return the factor of each row in :func:`l2_normalize`: one over its norm, 0 for a row without a direction.

    Args:
        rows (Tensor): Shape (..., D), float32 or float64.

    Returns:
        Tensor: Shape (...,), dtype of ``rows``.

    Example:
        >>> inverse_norms(torch.tensor([[3., 4.], [0., 0.]]))
        tensor([0.2000, 0.0000])
    """
    norms = torch.linalg.vector_norm(rows, dim=-1)
    return norms.masked_fill_(norms <= SHORTEST, math.inf).reciprocal_()
