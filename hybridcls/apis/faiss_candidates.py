"""Candidates for nearest neighbours from faiss, if it is installed and requested."""

from typing import Any

import torch
from torch import Tensor

from hybridcls.checks import check_installed
from hybridcls.functional.l2_normalize import l2_normalize

__all__ = ['FaissCandidates']

_ROWS_AT_ONCE = 8192


class FaissCandidates:
    """An ``IndexFlatIP`` of a bank, as the ``candidates`` of ``nearest_neighbours``.

    faiss holds the vectors in memory. Of equal similarities it keeps any; ``nearest_neighbours`` puts those in order.

    Args:
        bank (Tensor): (M, D). Rows that are not finite are never candidates.

    Raises:
        ImportError: If faiss is not installed.
    """

    def __init__(self, bank: Tensor) -> None:
        check_installed('search', 'faiss', '--engine faiss', 'search')
        import faiss

        self._index: Any = faiss.IndexFlatIP(bank.shape[1])
        positions = []
        for start in range(0, len(bank), _ROWS_AT_ONCE):
            rows = l2_normalize(bank[start : start + _ROWS_AT_ONCE].double())[0].float()
            finite = rows.isfinite().all(1)
            self._index.add(rows[finite].numpy())
            positions.append(finite.nonzero().squeeze(1) + start)
        self._positions = torch.cat([*positions, torch.tensor([-1])])  # the last is that of no neighbour

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the similarities and positions of ``count`` candidates, (N, count) each; position -1 is missing."""
        similarity, index = self._index.search(queries.cpu().numpy(), count)
        return torch.from_numpy(similarity), self._positions[torch.from_numpy(index)]
