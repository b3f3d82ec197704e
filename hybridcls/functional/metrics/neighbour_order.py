"""Encode similarity and position as one integer in the order of neighbours: most similar first, then by position."""

import torch
from torch import Tensor

from ..l2_normalize import inverse_norms

__all__ = ['NOT_THERE', 'keys_of', 'read_keys', 'l2_normalize64']

NOT_THERE = torch.iinfo(torch.int64).min
"""Key of no neighbour: below that of a similarity of -inf."""

_LARGEST = 2**32 - 1
_NOISE = 2.0**-44  # of float64 sums, which differ with their order: a right angle is 0


def keys_of(similarities: Tensor, positions: Tensor) -> Tensor:
    """Return int64 keys that are larger for a larger similarity and, where these are equal, for a smaller position.

    Args:
        similarities (Tensor): Float64 or float32, rounded to float32 here. NaN counts as -inf, and what is
            within 1e-13 of 0, which is the rounding of a right angle, as 0.
        positions (Tensor): Int64 in [0, 2**32), of a shape that goes with it.

    Example:
        >>> keys = keys_of(torch.tensor([0.5, 0.5, 0.7]), torch.tensor([1, 0, 2]))
        >>> keys.argsort(descending=True).tolist()
        [2, 1, 0]
    """
    single = similarities.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bits = single.masked_fill(single.abs() < _NOISE, 0.0).view(torch.int32)  # -0.0 becomes 0.0
    # Of negative numbers all bits but the sign are turned: IEEE numbers are then in the order of integers.
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    return (ordered << 32) | (_LARGEST - positions)


def read_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 similarities and the int64 positions of :func:`keys_of`."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), _LARGEST - (keys & _LARGEST)


def l2_normalize64(rows: Tensor) -> Tensor:
    """L2-normalize rows (N, D) in float64; a zero row stays, one that is not finite becomes NaN."""
    rows = rows.double()
    return rows * inverse_norms(rows).unsqueeze(1)
