"""Candidates for the most similar entries of a bank, by a float32 product."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Optional

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from ..full_precision import outside_autocast
from ..l2_normalize import l2_normalize
from ..product_precision import multiply

__all__ = ['find_candidates', 'rounding_error']

# Blocks of the CPU: 1024 x 512 similarities are 2 MiB, and stay in the cache between the product and the comparison. A
# few queries meet more rows at once: else the calls of a block would cost as much as its product.
_QUERIES_OF_A_SCREEN = 1024
_NUMBERS_OF_A_SCREEN = 2**19
_BANK_ROWS = 2048
_BLOCK_NUMBERS = 2**26  # float32 numbers in one block of similarities of a GPU, 256 MiB


def rounding_error(width: int) -> float:
    """Return a bound on the error of a float32 product of two L2-normalized rows of ``width`` numbers.

    Either row has an error of (width / 2 + 2) u from its norm, and the sum of products one of width u, whatever their
    order; u = 2**-24.
    """
    return (width + 4) * 2.0**-23


def find_candidates(
    queries: Tensor,
    own: Optional[Tensor],
    bank: Tensor,
    room: int,
    k: int,
    device: torch.device,
    search: Optional[Callable[[Tensor, int], tuple[Tensor, Tensor]]] = None,
) -> tuple[Tensor, Tensor]:
    """Find the ``room`` most similar entries of a bank by float32 similarity.

    Args:
        queries (Tensor): (N, D).
        own (Tensor, optional): Position of each query in the bank, which is left out, int64 (N,) in steps of 1.
        bank (Tensor): (M, D), M >= room.
        room (int): How many.
        k (int): What is less similar than the k-th one, by more than rounding, may be left out.
        device (torch.device): Where to compute.
        search (Callable, optional): What computes it instead.

    Returns:
        tuple[Tensor, Tensor]: On the CPU, float32 similarities (N, room), in no order, -inf where there is none, and
        positions, int64 (N, room).
    """
    units = _l2_normalized(queries, device)
    if search is not None:
        found, index = search(units, room)
        return found.masked_fill(index < 0, -torch.inf).nan_to_num(nan=-torch.inf), index.clamp(min=0)
    if device.type != 'cpu':
        return _by_topk(units, own, bank, room, device)
    return _by_screens(units, own, bank, room, k)


def _l2_normalized(rows: Tensor, device: torch.device) -> Tensor:
    """L2-normalize rows in float32; a row that is not finite contains NaN."""
    units, norms = l2_normalize(rows.to(device))
    long = norms.isinf()
    if long.any():  # squares overflow, or there is an infinite number: then NaN follows
        units[long] = l2_normalize(rows.to(device)[long] / rows.to(device)[long].abs().amax(1, keepdim=True))[0]
    return units.float()


def _by_topk(
    queries: Tensor, own: Optional[Tensor], bank: Tensor, room: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Search on a GPU: large products, and the best of each block."""
    most_queries = min(len(queries), 4096)
    bank_rows = max(room, _BLOCK_NUMBERS // most_queries)
    found = torch.full((len(queries), room), -torch.inf, device=device)
    index = torch.zeros(len(queries), room, dtype=torch.int64, device=device)
    for start in range(0, len(bank), bank_rows):
        part = _l2_normalized(bank[start : start + bank_rows], device)
        for rows in torch.arange(len(queries), device=device).split(most_queries):
            with outside_autocast(queries):
                similarity = multiply(queries[rows], part.T, 'float32')  # which rounding_error is of
            similarity.nan_to_num_(nan=-torch.inf)
            if own is not None:
                place = own.to(device)[rows] - start
                inside = ((place >= 0) & (place < len(part))).nonzero().squeeze(1)
                similarity[inside, place[inside]] = -torch.inf
            best, where = similarity.topk(min(room, len(part)), dim=1)
            merged, kept = torch.cat([found[rows], best], 1).topk(room, dim=1)
            index[rows] = torch.cat([index[rows], where + start], 1).gather(1, kept)
            found[rows] = merged
    return found.cpu(), index.cpu()


def _by_screens(units: Tensor, own: Optional[Tensor], bank: Tensor, room: int, k: int) -> tuple[Tensor, Tensor]:
    """Search on a CPU: blocks that fit in the cache, most of which contain no candidate.

    The product is that of numpy's BLAS: on an AMD EPYC, 4,000 x 100,000 products of 256 numbers took 1.6 s on one
    thread, and 1.8 s or more with torch.
    """
    number = -(-len(units) // _QUERIES_OF_A_SCREEN)
    blocks = _Blocks()
    firsts = [None] * number if own is None else [int(part[0]) for part in own.tensor_split(number)]
    screens = [
        _Screen(part.numpy(), first, room, k, blocks)
        for part, first in zip(units.tensor_split(number), firsts, strict=True)
    ]
    threads = torch.get_num_threads()
    workers = min(threads, len(screens))
    with _blas().limit(limits=max(1, threads // workers), user_api='blas'), ThreadPoolExecutor(workers) as pool:
        whole = _NUMBERS_OF_A_SCREEN // -(-len(units) // number)
        rows = max(min(_BANK_ROWS, 1 << (whole.bit_length() - 1)), room)  # a power of two: see _rows_and_columns
        for start in range(0, len(bank), rows):
            part = _l2_normalized(bank[start : start + rows], units.device).numpy()
            meetings = (pool.map if workers > 1 else map)(lambda screen: screen.meet(part, start), screens)  # noqa: B023
            list(meetings)
    found, index = zip(*(screen.best() for screen in screens), strict=True)
    return torch.from_numpy(np.concatenate(found)), torch.from_numpy(np.concatenate(index))


@cache
def _blas() -> Any:
    return ThreadpoolController()


class _Blocks(threading.local):
    """Memory for a block of similarities and one of booleans, reused by a thread to stay in its cache."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def of(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return uninitialized float32 and bool arrays of a shape."""
        if shape not in self._blocks:
            self._blocks[shape] = np.empty(shape, np.float32), np.empty(shape, bool)
        return self._blocks[shape]


class _Screen:
    """A group of queries, and the candidates found for them so far.

    ``found`` (Q, W) and ``index`` (Q, W) have room for more than ``room``; ``used`` says how far each row is filled.
    When a row is full, all rows drop what they need not keep, and the thresholds rise.
    """

    def __init__(self, queries: np.ndarray, first: Optional[int], room: int, k: int, blocks: '_Blocks') -> None:
        self.queries, self.first, self.room, self.k, self._blocks = queries, first, room, k, blocks
        self.slack = np.float32(2 * rounding_error(queries.shape[1]))
        self.used = np.zeros(len(queries), np.int64)
        self._begins = np.arange(len(queries))[:, None]  # of rows, for take and put

    def meet(self, part: np.ndarray, start: int) -> None:
        """Compare the queries with L2-normalized rows of the bank, (B, D), which start at a position."""
        shape = len(self.queries), len(part)
        similarity, above = self._blocks.of(shape)
        np.dot(self.queries, part.T, out=similarity)
        if self.first is not None:
            begin, end = max(self.first, start), min(self.first + shape[0], start + shape[1])
            own = np.arange(begin, end)
            similarity[own - self.first, own - start] = np.nan
        if start == 0:
            self.found = np.where(np.isnan(similarity), np.float32(-np.inf), similarity)
            self.index = np.broadcast_to(np.arange(shape[1]), shape)  # is copied by the next line, once
            self._drop()
            return
        np.greater(similarity, self.threshold, out=above)  # NaN is never greater
        places = np.flatnonzero(above)
        if len(places):
            self._take(similarity, places, start)

    def _take(self, similarity: np.ndarray, places: np.ndarray, start: int) -> None:
        """Store the similarities at some positions of the block, in ascending order of the positions."""
        rows, columns = _rows_and_columns(places, similarity.shape[1])
        counts = np.bincount(rows, minlength=len(self.queries))
        if (self.used + counts).max() > self.found.shape[1] or self.used.sum() > self.used.size * (self.room + self.k):
            self._drop(int(counts.max()))
        begins = self._begins[:, 0] * self.found.shape[1] + self.used - counts.cumsum() + counts
        slots = np.repeat(begins, counts)
        slots += np.arange(len(rows))
        columns += start
        self.found.reshape(-1)[slots] = similarity.reshape(-1).take(places)
        self.index.reshape(-1)[slots] = columns
        self.used += counts

    def _drop(self, more: int = 0) -> None:
        """Keep the best ``room`` of each row, raise the thresholds, and make room for ``more``."""
        kept = np.argpartition(self.found, -self.room, axis=1)[:, -self.room :]
        kept += self._begins * self.found.shape[1]
        best = self.found.reshape(-1).take(kept)
        width = self.room + max(self.room + self.k, more)
        found = np.full((len(best), width), -np.inf, np.float32)
        index = np.zeros((len(best), width), np.int64)
        found[:, : self.room], index[:, : self.room] = best, self.index.reshape(-1).take(kept)
        self.found, self.index = found, index
        self.used = np.full(len(best), self.room)
        self.threshold = np.partition(best, -self.k, axis=1)[:, -self.k, None] - self.slack

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the best ``room`` of each query."""
        self._drop()
        return self.found[:, : self.room], self.index[:, : self.room]


def _rows_and_columns(places: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide positions by the width with remainder, by vectorized shifts if it is a power of two."""
    if width & (width - 1):
        rows = places // width
        return rows, places - rows * width
    return places >> (width.bit_length() - 1), places & (width - 1)
