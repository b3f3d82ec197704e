"""Save and load the gradients of a partially accumulated update."""

import logging
from typing import Any, Optional, Union

import torch
from mmengine.dist import all_gather_object, gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.distributed.layouts import is_row_shard
from hybridcls.distributed.sharded_parameters import gather_whole

__all__ = ['WHOLE', 'Gradients', 'accumulated_gradients', 'gather_gradients', 'own_gradients']

Gradients = dict[Union[int, str], dict[int, Tensor]]  # by process, or WHOLE, and position
WHOLE = 'whole'  # in place of the number of a process: the rows of all, of a matrix that is spread over them


def accumulated_gradients(
    caller: str, params: list, accumulates_alone: bool, gathered: Optional[Gradients]
) -> Gradients:
    """Return the gradients accumulated so far, by process and position, as far as this process has them.

    Args:
        caller (str): Name that warnings start with.
        params (list[nn.Parameter]): By position.
        accumulates_alone (bool): Other processes have gradients of their own.
        gathered (Gradients, optional): Those of all processes, if :func:`gather_gradients` was called.
    """
    if accumulates_alone:
        if gathered is None:
            _warn(
                f'{caller}: this checkpoint is written in the middle of an accumulation, and the gradients of the '
                "other processes were not collected; none are saved. Use hybridcls' CheckpointHook, or let the "
                'interval of checkpoints be a multiple of accumulative_counts.'
            )
        return gathered or {}
    if any(param.grad is not None and param.grad.shape != param.shape for param in params):
        _warn(
            f'{caller}: this checkpoint is written in the middle of an accumulation whose gradients FSDP holds '
            'unsharded; they are not saved. Let the interval of checkpoints be a multiple of accumulative_counts.'
        )
        return {}
    # Dense, since readers of checkpoints know no sparse tensors.
    return {0: {position: param.grad.to_dense() for position, param in enumerate(params) if param.grad is not None}}


def gather_gradients(params: list) -> Gradients:
    """Gather the partial gradients of all processes on the first one; all must call this together.

    Returns:
        dict[int | str, dict[int, Tensor]]: By process and position, on the CPU, empty but on the first process; under
        ``'whole'`` those of matrices of which each process has some rows.
    """
    own = {
        position: param.grad.to_dense().cpu()
        for position, param in enumerate(params)
        if param.grad is not None and not is_row_shard(param)
    }
    gathered: Gradients = dict(enumerate(gather_object(own) or ()))
    sharded = [(position, param) for position, param in enumerate(params) if is_row_shard(param)]
    have_gradients = all_gather_object([param.grad is not None for _, param in sharded])
    whole = {}
    for (position, param), *have in zip(sharded, *have_gradients, strict=True):
        if any(have):
            rows = torch.zeros_like(param) if param.grad is None else param.grad.to_dense()
            whole[position] = gather_whole(rows, param.row_shard)
    return {**gathered, WHOLE: whole} if get_rank() == 0 else {}


def own_gradients(gradients: Gradients) -> dict[int, Any]:
    """Return this process's saved gradients; if the number of processes has changed, the mean of all.

    Of a matrix that is spread over processes nothing is averaged: the whole is there for each of them.
    """
    whole = gradients.get(WHOLE, {})
    by_process = [gradients[rank] for rank in gradients if rank != WHOLE]
    if len(by_process) == get_world_size() and get_rank() in gradients:
        return {**gradients[get_rank()], **whole}
    positions = {position for of_process in by_process for position in of_process}
    mean = {
        position: sum(of_process[position] for of_process in by_process if position in of_process) / len(by_process)
        for position in positions
    }
    return {**mean, **whole}


def _warn(text: str) -> None:
    print_log(text, 'current', level=logging.WARNING)
