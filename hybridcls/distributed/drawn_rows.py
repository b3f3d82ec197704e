"""Sampled rows of a parameter: sparse gradients of these rows, and updates of these rows alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hybridcls.functional.lazy_zeros import lazy_zeros

__all__ = ['check_row_gradient', 'gather_drawn', 'has_row_gradient', 'updating_drawn_rows', 'with_row_gradient']


def with_row_gradient(param: nn.Parameter) -> nn.Parameter:
    """Mark a parameter whose gradient has the drawn rows alone, for optimizer wrappers and DDP; return it."""
    param.row_gradient = True  # type: ignore[attr-defined]
    return param


def has_row_gradient(param: Any) -> bool:
    """Return whether a parameter is marked by :func:`with_row_gradient`."""
    return getattr(param, 'row_gradient', False)


def gather_drawn(matrix: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a matrix, whose gradient becomes a sparse tensor that takes no memory for the other rows.

    Args:
        matrix (Tensor): Shape (C, ...).
        rows (Tensor): int64, rising, each once, shape (k,).

    Returns:
        Tensor: Shape (k, ...), a copy.

    Example:
        >>> weight = nn.Parameter(torch.ones(4, 2))
        >>> gather_drawn(weight, torch.tensor([1, 3])).sum().backward()
        >>> weight.grad.is_sparse, weight.grad.coalesce().indices().tolist()
        (True, [[1, 3]])
    """
    return _Gathered.apply(matrix, rows)


_ROW_BY_ROW = ('SGD', 'Adam', 'AdamW', 'NAdam', 'RAdam', 'Adamax', 'Adagrad', 'RMSprop', 'Lion')


class _Gathered(torch.autograd.Function):
    """``index_select`` with a sparse gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = matrix.shape
        return matrix.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(
            rows.unsqueeze(0), grad, ctx.shape, check_invariants=False, is_coalesced=True
        ), None


def check_row_gradient(caller: str, optimizer: torch.optim.Optimizer, has_second_pass: bool) -> None:
    """Raise a ValueError if an optimizer cannot update the rows of a marked parameter separately.

    Args:
        caller (str): Name that errors start with.
        optimizer (torch.optim.Optimizer): Of all parameters.
        has_second_pass (bool): Whether SAM or its like works on the gradients.
    """
    if not any(has_row_gradient(param) for group in optimizer.param_groups for param in group['params']):
        return
    kind = type(optimizer)
    if kind.__name__ not in _ROW_BY_ROW:
        raise ValueError(
            f'{caller}: expected an optimizer that updates each row by itself beside update_drawn_only=True of the '
            f'head, got {kind.__name__}. Take {", ".join(_ROW_BY_ROW)}, or set update_drawn_only=False.'
        )
    if has_second_pass:
        raise ValueError(
            f'{caller}: a second pass (SAM, FriendlySAM) ascends by the gradient of all class weights, and with '
            'update_drawn_only=True only the drawn ones have one. Drop one of the two; MSAM works.'
        )


@contextmanager
def updating_drawn_rows(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Replace parameters with sparse gradients, in the block, by small dense ones that hold the sampled rows alone.

    Weights and state of the other rows stay as they are and are not read: neither momentum nor weight decay goes on
    for them. A row that is drawn for the first time has a state of zeros; numbers of the state that belong to no row
    (Adam's count of steps) are those of the parameter, as in ``torch.optim.SparseAdam``. What clips gradients or scales
    losses may do so inside.

    Args:
        optimizer (torch.optim.Optimizer): One that treats rows one by one, as SGD, Adam and their like do.

    Raises:
        ValueError: If its state is neither shaped like the parameter nor a number.
    """
    swapped: list[tuple[dict, int, nn.Parameter, nn.Parameter, Tensor]] = []
    for group in optimizer.param_groups:
        for place, param in enumerate(group['params']):
            if param.grad is not None and has_row_gradient(param):
                rows, gradient = _rows_and_gradient(param.grad)
                drawn = nn.Parameter(param.detach().index_select(0, rows))
                drawn.grad = gradient
                if hasattr(param, 'row_shard'):
                    drawn.row_shard = param.row_shard  # type: ignore[attr-defined]
                swapped.append((group, place, param, drawn, rows))
    for group, place, param, drawn, rows in swapped:
        group['params'][place], param.grad = drawn, None
        if param in optimizer.state:
            optimizer.state[drawn] = {
                key: value.index_select(0, rows) if _is_like(value, param) else value
                for key, value in optimizer.state[param].items()
            }
    try:
        yield
    finally:
        with torch.no_grad():
            for group, place, param, drawn, rows in swapped:
                group['params'][place] = param
                param.index_copy_(0, rows, drawn)
                _write_back(optimizer, param, drawn, rows)


def _rows_and_gradient(grad: Tensor) -> tuple[Tensor, Tensor]:
    if grad.is_sparse:
        grad = grad.coalesce()
        return grad.indices()[0], grad.values()
    # An accumulation that was half done in a checkpoint, where zeros stand for the other rows.
    rows = grad.flatten(1).any(1).nonzero().squeeze(1)
    return rows, grad.index_select(0, rows)


def _write_back(optimizer: torch.optim.Optimizer, param: Tensor, drawn: Tensor, rows: Tensor) -> None:
    for key, value in optimizer.state.pop(drawn, {}).items():
        whole = optimizer.state[param]
        if not _is_like(value, drawn):
            if isinstance(value, Tensor) and value.dim():
                raise ValueError(
                    f'{type(optimizer).__name__}: expected a state shaped like the class weights, or a number, where '
                    f'only the drawn rows are updated, got {key} of shape {tuple(value.shape)}. Take SGD, Adam or '
                    'AdamW, or set update_drawn_only=False.'
                )
            whole[key] = value
            continue
        if not _is_like(whole.get(key), param):
            whole[key] = lazy_zeros(param.detach().to(value.dtype))
        whole[key].index_copy_(0, rows, value)


def _is_like(value: Any, param: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == param.shape
