"""Candidates for the most similar entries of a bank, by a float32 product."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Optional, Union

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from ..full_precision import outside_autocast
from ..l2_normalize import l2_normalize
from ..product_precision import multiply
from .rough_similarities import RoughSimilarities, bits_of_floors, rough_products_pay

__all__ = ['find_candidates', 'rounding_error']

# Blocks of the CPU: 1024 x 512 similarities are 2 MiB, and stay in the cache between the product and the comparison. A
# few queries meet more rows at once: else the calls of a block would cost as much as its product.
_QUERIES_OF_A_SCREEN = 1024
_NUMBERS_OF_A_SCREEN = 2**19
_BANK_ROWS = 2048
_LARGEST_SHARE = 1 / 128  # of a block's pairs that pass a rough screen: of more, the whole block is computed sooner
_PAIRS_AT_ONCE = 512  # that stay in the cache
_NOWHERE = (np.empty(0, np.int64),) * 2
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
    thread, and 1.8 s or more with torch. Where the CPU multiplies bfloat16, such a product comes first, in half of
    that time, and float32 computes the few pairs only that could be candidates.
    """
    number = -(-len(units) // _QUERIES_OF_A_SCREEN)
    blocks = _Blocks()
    firsts = [None] * number if own is None else [int(part[0]) for part in own.tensor_split(number)]
    screens = [
        _Screen(part.numpy(), first, room, k, blocks)
        for part, first in zip(units.tensor_split(number), firsts, strict=True)
    ]
    rough = RoughSimilarities(units, rounding_error(units.shape[1])) if rough_products_pay(units) else None
    threads = torch.get_num_threads()
    workers = min(threads, len(screens))
    with _blas().limit(limits=max(1, threads // workers), user_api='blas'), ThreadPoolExecutor(workers) as pool:
        whole = _NUMBERS_OF_A_SCREEN // -(-len(units) // number)
        rows = max(min(_BANK_ROWS, 1 << (whole.bit_length() - 1)), room)  # a power of two: see _rows_and_columns
        for start in range(0, len(bank), rows):
            part = _l2_normalized(bank[start : start + rows], units.device)
            meet = partial(_Screen.meet, part=part.numpy(), start=start)
            roughly = rough.meet(part) if rough and start else None
            shares = (
                [None] * number if roughly is None else zip(*(np.array_split(x, number) for x in roughly), strict=True)
            )
            useful = list((pool.map if workers > 1 else map)(meet, screens, shares))
            if rough and roughly:
                rough.was_of_use(sum(useful) >= number / 2)
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
    When a row is full, rows drop what they need not keep, and their thresholds rise.
    """

    def __init__(self, queries: np.ndarray, first: Optional[int], room: int, k: int, blocks: '_Blocks') -> None:
        self.queries, self.first, self.room, self.k, self._blocks = queries, first, room, k, blocks
        self.slack = np.float32(2 * rounding_error(queries.shape[1]))
        self.used = np.zeros(len(queries), np.int64)
        self.threshold = np.full((len(queries), 1), -np.inf, np.float32)

    def meet(self, rough: Optional[tuple[np.ndarray, np.ndarray]], part: np.ndarray, start: int) -> bool:
        """Compare the queries with L2-normalized rows of the bank.

        Args:
            rough (tuple, optional): The queries' part of what :class:`RoughSimilarities` answers.
            part (np.ndarray): (B, D).
            start (int): Position of the first row.

        Returns:
            bool: Whether the rough similarities were enough.
        """
        if rough is not None and self._meet_roughly(*rough, part, start):
            return True
        similarity, above = self._blocks.of((len(self.queries), len(part)))
        np.dot(self.queries, part.T, out=similarity)
        similarity[self._themselves(start, len(part))] = np.nan
        if start == 0:
            self._begin(np.where(np.isnan(similarity), np.float32(-np.inf), similarity))
            return False
        np.greater(similarity, self.threshold, out=above)  # NaN is never greater
        places = np.flatnonzero(above)
        if len(places):
            rows, columns = _rows_and_columns(places, len(part))
            self._take(similarity.reshape(-1).take(places), rows, columns, start)
        return False

    def _meet_roughly(self, bits: np.ndarray, error: np.ndarray, part: np.ndarray, start: int) -> bool:
        """Compute only the pairs whose rough similarity could be that of a candidate; False if these are many."""
        floors = bits_of_floors(self.threshold[:, 0] - error)
        if floors is None:
            return False
        bits[self._themselves(start, len(part))] = -1  # below all floors
        _, above = self._blocks.of(bits.shape)
        np.greater_equal(bits, floors[:, None], out=above)
        places = np.flatnonzero(above)
        if len(places) > _LARGEST_SHARE * above.size:
            return False
        rows, columns = _rows_and_columns(places, len(part))
        similarity = np.empty(len(places), np.float32)
        for begin in range(0, len(places), _PAIRS_AT_ONCE):
            some = slice(begin, begin + _PAIRS_AT_ONCE)
            similarity[some] = np.einsum('ij,ij->i', self.queries[rows[some]], part[columns[some]])
        near = np.flatnonzero(similarity > self.threshold[rows, 0])
        if len(near):
            self._take(similarity[near], rows[near], columns[near], start)
        return True

    def _themselves(self, start: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns of the queries' own places in a block of the bank."""
        if self.first is None:
            return _NOWHERE
        own = np.arange(max(self.first, start), min(self.first + len(self.queries), start + width))
        return own - self.first, own - start

    def _take(self, similarity: np.ndarray, rows: np.ndarray, columns: np.ndarray, start: int) -> None:
        """Store the similarities of some pairs of a block, in ascending order of the rows."""
        counts = np.bincount(rows, minlength=len(self.queries))
        full = self.used + counts > self.found.shape[1]
        if full.any() or self.used.sum() > self.used.size * (self.room + self.k):
            self._drop(full, int(counts.max()))
        begins = np.arange(len(counts)) * self.found.shape[1] + self.used - counts.cumsum() + counts
        slots = np.repeat(begins, counts)
        slots += np.arange(len(rows))
        self.found.reshape(-1)[slots] = similarity
        self.index.reshape(-1)[slots] = columns + start
        self.used += counts

    def _begin(self, similarity: np.ndarray) -> None:
        """Take the best ``room`` of the first block."""
        self.found = np.full((len(similarity), 2 * self.room + self.k), -np.inf, np.float32)
        self.index = np.zeros(self.found.shape, np.int64)
        self._keep(slice(None), similarity, np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape))

    def _drop(self, full: np.ndarray, more: int) -> None:
        """Make room for ``more`` candidates of each query.

        Where few rows are full, those of queries with many ties, the rest waits until it has something to drop.
        """
        if self.found.shape[1] < self.room + more:
            wider = (0, 0), (0, self.room + more - self.found.shape[1])
            self.found = np.pad(self.found, wider, constant_values=-np.inf)
            self.index = np.pad(self.index, wider)
        rows = np.flatnonzero(full | (self.used > self.room + self.k // 2))
        self._keep(rows, self.found[rows], self.index[rows])

    def _keep(self, rows: Union[slice, np.ndarray], found: np.ndarray, index: np.ndarray) -> None:
        """Keep the best ``room`` of what is found for some rows, and raise their thresholds."""
        kept = np.argpartition(found, -self.room, axis=1)[:, -self.room :]
        best = np.take_along_axis(found, kept, 1)
        self.found[rows, : self.room] = best
        self.found[rows, self.room :] = -np.inf
        self.index[rows, : self.room] = np.take_along_axis(index, kept, 1)
        self.used[rows] = self.room
        self.threshold[rows, 0] = np.partition(best, -self.k, axis=1)[:, -self.k] - self.slack

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the best ``room`` of each query."""
        self._keep(slice(None), self.found, self.index)
        return self.found[:, : self.room], self.index[:, : self.room]


def _rows_and_columns(places: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide positions by the width with remainder, by vectorized shifts if it is a power of two."""
    if width & (width - 1):
        rows = places // width
        return rows, places - rows * width
    return places >> (width.bit_length() - 1), places & (width - 1)
