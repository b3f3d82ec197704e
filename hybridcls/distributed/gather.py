"""Gather rows of all processes on each process, with gradients that flow back."""

from typing import Any, Optional

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ['gather_rows', 'has_process_group', 'num_processes', 'row_counts', 'stack_of_processes']


def has_process_group() -> bool:
    """Return whether a process group is initialized, even of a single process."""
    return dist.is_available() and dist.is_initialized()


def num_processes() -> int:
    """Return the number of processes that train together; 1 without an initialized process group."""
    return dist.get_world_size() if has_process_group() else 1


def gather_rows(*tensors: Tensor, counts: Optional[list[int]] = None) -> tuple[tuple[Tensor, ...], int]:
    r"""Concatenate the rows of every process, in the order of the ranks.

    The gradient of an own row is the sum over all processes of the gradients of that row. So if process r computes
    the share :math:`L_r` of a loss :math:`L = \sum_r L_r`, each process has :math:`\partial L / \partial x` for its own
    rows after ``backward()``, and the *sum* over the processes of their parameters' gradients is the gradient of L.
    ``DistributedDataParallel`` takes the mean: multiply the share by the number of processes.

    Processes may bring different numbers of rows. All must call this function, and all must (or none may) run the
    backward pass, as with any collective. The row counts are exchanged first, which waits for the device once.

    Args:
        *tensors (Tensor): Shape (B, ...) each, with the same number of rows B, which may differ between processes.
            Only tensors that require gradients get them, so whole-number labels may be among them.
        counts (list[int], optional): The numbers of rows, if :func:`row_counts` has exchanged them before.

    Returns:
        tuple[tuple[Tensor, ...], int]: The gathered tensors, shape (sum of B, ...), on every process the same; and the
        number of rows that stand before the first row of this process. In a single process: the inputs and 0.

    Raises:
        ValueError: If the tensors have different numbers of rows, or rows of different sizes on different processes.

    Example:
        >>> (rows, labels), start = gather_rows(torch.ones(2, 3), torch.tensor([4, 7]))
        >>> rows.shape, labels.tolist(), start
        (torch.Size([2, 3]), [4, 7], 0)
    """
    num_rows = {len(tensor) for tensor in tensors}
    if len(num_rows) != 1:
        raise ValueError(
            f'gather_rows: tensors of {sorted(num_rows)} rows were given together. They describe the same '
            'rows, so all need the same first dimension.'
        )
    if num_processes() == 1:
        return tensors, 0
    if counts is None:
        counts = row_counts(*tensors)
    gathered = tuple(
        _GatherRows.apply(tensor, counts) if tensor.requires_grad else _gather(tensor, counts) for tensor in tensors
    )
    return gathered, sum(counts[: dist.get_rank()])


def stack_of_processes(numbers: Tensor) -> Tensor:
    """Stack the small tensors of all processes, in the order of the ranks; without gradient.

    Args:
        numbers (Tensor): Any shape, the same on every process.

    Returns:
        Tensor: Shape (processes, ...), on every process the same.

    Example:
        >>> stack_of_processes(torch.tensor([1., 2.])).shape
        torch.Size([1, 2])
    """
    if num_processes() == 1:
        return numbers.unsqueeze(0)
    parts = [torch.empty_like(numbers) for _ in range(num_processes())]
    dist.all_gather(parts, numbers)
    return torch.stack(parts)


def row_counts(*tensors: Tensor) -> list[int]:
    """Exchange the numbers of rows, and check that rows have one size everywhere; synchronizes with the device.

    Args:
        *tensors (Tensor): With the same number of rows each, which may differ between processes.

    Returns:
        list[int]: The number of rows on each process, by rank.

    Raises:
        ValueError: If rows are of different sizes on different processes.

    Example:
        >>> row_counts(torch.ones(2, 3))
        [2]
    """
    if num_processes() == 1:
        return [len(tensors[0])]
    own = [len(tensors[0]), *(tensor[:0].new_empty((1, *tensor.shape[1:])).numel() for tensor in tensors)]
    own_shape = torch.tensor(own, device=tensors[0].device)
    counts, *row_sizes = stack_of_processes(own_shape).t().tolist()
    for sizes in row_sizes:
        if len(set(sizes)) != 1:
            raise ValueError(
                f'gather_rows: a row has {sizes} numbers on ranks 0 to {len(sizes) - 1}. All processes '
                'need the same embedding width and number of views: do they run the same config?'
            )
    return counts


def _gather(rows: Tensor, counts: list[int]) -> Tensor:
    most = max(counts)
    rows = rows.detach().contiguous()
    if len(rows) < most:  # collectives want equal shapes
        rows = torch.cat([rows, rows.new_zeros((most - len(rows), *rows.shape[1:]))])
    parts = [torch.empty_like(rows) for _ in counts]
    dist.all_gather(parts, rows)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return _gather(rows, counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # A sum over everything and a cut, instead of a reduce-scatter: works on every backend and with unequal counts.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.split(ctx.counts)[dist.get_rank()], None
