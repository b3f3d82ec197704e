"""Similarities by bfloat16 products, with a bound on their error: they tell which pairs need not be looked at."""

from typing import Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.processor import BFLOAT16_FLAGS, cpu_flags

from ..full_precision import outside_autocast

__all__ = ['RoughSimilarities', 'rough_products_pay']

_FEWEST_QUERIES = 256  # fewer wait for the memory, not for the product
_LEAST_WIDTH = 64  # the products of narrower rows take less time than what is done with them
_SMALLEST = 2.0**-10  # of a floor: below 0 the order of integers is another
_LONGEST_PAUSE = 64  # blocks of the bank


def rough_products_pay(queries: Tensor) -> bool:
    """Return whether this CPU multiplies bfloat16, and the queries (N, D) are enough to gain by it."""
    return (
        len(queries) >= _FEWEST_QUERIES
        and queries.shape[1] >= _LEAST_WIDTH
        and torch.backends.mkldnn.is_available()
        and bool({*BFLOAT16_FLAGS} & {*cpu_flags()})
    )


class RoughSimilarities:
    r"""Multiply L2-normalized queries with blocks of a bank in bfloat16.

    Rounding q and v to :math:`\hat q` and :math:`\hat v` changes their similarity by at most
    :math:`\lVert q - \hat q\rVert \lVert v\rVert + \lVert\hat q\rVert \lVert v - \hat v\rVert` (Cauchy and Schwarz),
    and these norms are computed, not estimated. The result is rounded to bfloat16 as well; rounding keeps the order,
    so it is compared with a rounded floor.

    Args:
        queries (Tensor): float32 ``(N, D)`` on the CPU, L2-normalized; a row that is not finite contains NaN.
        sum_error (float): Bound on the error of a float32 sum of products of two such rows.
    """

    def __init__(self, queries: Tensor, sum_error: float) -> None:
        self._queries = queries.bfloat16()
        self._moved = torch.linalg.vector_norm(queries - self._queries, dim=1)
        self._sum_error = sum_error
        self._bits = torch.empty(0, dtype=torch.bfloat16)
        self._pause = 1  # blocks to leave out after the next one that was of no use
        self._left_out = 0

    def meet(self, part: Tensor) -> Optional[tuple[np.ndarray, np.ndarray]]:
        """Multiply with L2-normalized rows of the bank.

        Args:
            part (Tensor): float32 (B, D).

        Returns:
            tuple[np.ndarray, np.ndarray], optional: The bits of the similarities, int16 (N, B), which the next call
            overwrites, and how far those of a query may be from float32's before the last rounding, float32 (N,). None
            for some blocks after those of which :meth:`was_of_use` was told that they were of no use.
        """
        if self._left_out:
            self._left_out -= 1
            return None
        shape = len(self._queries), len(part)
        rounded = part.bfloat16()
        moved = torch.linalg.vector_norm(part - rounded, dim=1).nan_to_num(nan=0.0).amax()
        if self._bits.shape != shape:
            self._bits = torch.empty(shape, dtype=torch.bfloat16)
        with outside_autocast(rounded):
            torch.mm(self._queries, rounded.T, out=self._bits)
        # The norms of float32 rows are 1 to within the error of a sum, and so are the sums themselves, here and there.
        error = (self._moved + (1 + self._moved) * moved) * (1 + self._sum_error) + 2 * self._sum_error
        return self._bits.view(torch.int16).numpy(), error.numpy()

    def was_of_use(self, useful: bool) -> None:
        """Say whether the last block was; where embeddings of a class are nearly equal, many pairs pass each floor."""
        if useful:
            self._pause = 1
        else:
            self._left_out, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)


def bits_of_floors(floors: np.ndarray) -> Optional[np.ndarray]:
    """Return int16 numbers (N,) to which the bits of rough similarities compare as they do to float32 floors.

    None if a floor is too small: the bits of negative numbers have another order. A floor of NaN is above all numbers.
    """
    nowhere = np.isnan(floors)
    if not (floors[~nowhere] >= _SMALLEST).all():
        return None
    bits = torch.from_numpy(floors).bfloat16().view(torch.int16).numpy()
    bits[nowhere] = np.iinfo(np.int16).max
    return bits
