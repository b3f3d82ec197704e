"""Divide the rows of a matrix among processes."""

import math
from typing import NamedTuple

import torch.distributed as dist

from .gather import num_processes

__all__ = ['RowShard']


class RowShard(NamedTuple):
    """A range of rows. Processes hold ``ceil(total / processes)`` rows each; the last ones hold fewer, or none.

    (So ``torch.chunk`` and DTensor's ``Shard(0)`` cut too.) A parameter of which a process holds its rows only carries
    this as its attribute ``row_shard``, for norms and for checkpoints.

    Args:
        first (int): The first row of this process.
        size (int): Its number of rows, perhaps 0.
        total (int): Rows on all processes.

    Example:
        >>> [RowShard.cut(5, rank, 4) for rank in (0, 2, 3)]
        [RowShard(first=0, size=2, total=5), RowShard(first=4, size=1, total=5), RowShard(first=5, size=0, total=5)]
        >>> RowShard.of_this_process(5)  # alone
        RowShard(first=0, size=5, total=5)
    """

    first: int
    size: int
    total: int

    @classmethod
    def cut(cls, total: int, rank: int, processes: int) -> 'RowShard':
        """Return the rows of process ``rank``."""
        size = math.ceil(total / processes)
        first = min(rank * size, total)
        return cls(first, min(size, total - first), total)

    @classmethod
    def of_this_process(cls, total: int) -> 'RowShard':
        """Return the rows of this process among all that train together."""
        return cls.cut(total, dist.get_rank() if num_processes() > 1 else 0, num_processes())

    def of_all_processes(self) -> list['RowShard']:
        """Return the rows of each process, by rank."""
        return [self.cut(self.total, rank, num_processes()) for rank in range(num_processes())]

    @property
    def is_whole(self) -> bool:
        """Whether this process holds all rows."""
        return self.size == self.total and num_processes() == 1
