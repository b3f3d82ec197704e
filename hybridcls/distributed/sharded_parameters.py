"""Parameters sharded over processes by rows; checkpoints and other code see the complete matrix."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hybridcls.compat.torch import exclude_names_from_ddp, is_dtensor

from .drawn_rows import has_row_gradient
from .gather import num_processes
from .row_shard import RowShard

_BLOCK = 1024  # rows that are drawn from one seed


class ShardedParameter(NamedTuple):
    """A sharded parameter of a model, and its location.

    Args:
        name (str): Its name in the model, as in the state dict.
        module (nn.Module): The module that holds it.
        own_name (str): Its name there.
        shard (RowShard): Which rows this process has.
    """

    name: str
    module: nn.Module
    own_name: str
    shard: RowShard

    @property
    def param(self) -> nn.Parameter:
        """The parameter, with the rows of this process."""
        return getattr(self.module, self.own_name)


def shard_rows(module: nn.Module, name: str, shard: RowShard) -> None:
    """Mark a parameter as this process's rows of a matrix.

    - The parameter carries ``shard`` as its attribute ``row_shard``.
    - State dicts hold the whole matrix, so that they fit any number of processes. In training it stands there as a
      ``DTensor``, of which each process has its rows; while a checkpoint is written, as a plain tensor that
      :func:`gather_whole` has put together.
    - What is loaded may be either; each process takes its rows.

    Args:
        module (nn.Module): Holds the parameter.
        name (str): Its name there. Its rows must be those of ``shard``.
        shard (RowShard): Which rows these are.
    """
    vars(module)['sharded_rows'] = {**getattr(module, 'sharded_rows', {}), name: shard}
    getattr(module, name).row_shard = shard
    module.register_state_dict_post_hook(_show_whole)
    module.register_load_state_dict_pre_hook(_take_own_rows)


@torch.no_grad()
def draw_rows(rows: Tensor, shard: RowShard, std: float) -> None:
    """Fill rows of a matrix from a normal distribution, with the values they have if the complete matrix is drawn.

    One number comes from torch's random state; if all processes have the same state, the whole is the same for any
    number of processes, and no two of them draw the same rows. No process draws more than its own rows (and up to two
    blocks of 1024).

    Args:
        rows (Tensor): Those of this process, shape (count, D), changed in place.
        shard (RowShard): Which ones they are.
        std (float): Standard deviation.
    """
    if rows.is_meta:
        return
    seed = int(torch.randint(2**62, (), device='cpu'))
    last = shard.first + shard.size
    for block in range(shard.first // _BLOCK, math.ceil(last / _BLOCK) if shard.size else 0):
        start = block * _BLOCK
        generator = torch.Generator().manual_seed(seed + block)
        drawn = torch.empty((min(_BLOCK, shard.total - start), *rows.shape[1:]), device='cpu').normal_(
            0, std, generator=generator
        )
        low, high = max(start, shard.first), min(start + len(drawn), last)
        rows[low - shard.first : high - shard.first] = drawn[low - start : high - start].to(rows.dtype)


def sharded_parameters(model: nn.Module) -> Iterator[ShardedParameter]:
    """Yield the sharded parameters of ``model``, of which this process holds some rows and others the rest."""
    for prefix, module in model.named_modules():
        for name, shard in getattr(module, 'sharded_rows', {}).items():
            if not shard.is_whole:
                yield ShardedParameter(f'{prefix}.{name}' if prefix else name, module, name, shard)


def exclude_from_ddp(model: nn.Module) -> None:
    """Exclude the sharded parameters of ``model`` from ``DistributedDataParallel``; call it before wrapping.

    Nor those with a gradient of drawn rows, which it could not, even where one process holds all rows.
    """
    names = [entry.name for entry in sharded_parameters(model)]
    names += [name for name, param in model.named_parameters() if has_row_gradient(param) and name not in names]
    if names:
        exclude_names_from_ddp(model, names)


@torch.no_grad()
def gather_whole(rows: Tensor, shard: RowShard, most: int = 64 * 2**20) -> Tensor:
    """Gather the rows of all processes on the first process; all must call this.

    Args:
        rows (Tensor): Those of this process, shape (count, ...).
        shard (RowShard): Which ones they are.
        most (int): Bytes that travel at a time. Defaults to 64 MiB.

    Returns:
        Tensor: On the CPU, shape (total, ...) on the first process, and (0, ...) on the others.
    """
    if num_processes() == 1:
        return rows.detach().cpu()
    is_first = dist.get_rank() == 0
    whole = torch.empty((shard.total if is_first else 0, *rows.shape[1:]), dtype=rows.dtype)
    step = max(1, most // max(1, rows.element_size() * math.prod(rows.shape[1:])))
    for rank, other in enumerate(shard.of_all_processes()):
        for first in range(0, other.size, step):
            last = min(first + step, other.size)
            if is_first:
                part = rows[first:last] if rank == 0 else rows.new_empty((last - first, *rows.shape[1:]))
                if rank:
                    dist.recv(part, rank)
                whole[other.first + first : other.first + last] = part
            elif dist.get_rank() == rank:
                dist.send(rows[first:last].contiguous(), 0)
    return whole


def own_rows(whole: Tensor, shard: RowShard) -> Tensor:
    """Return this process's rows of a complete matrix, as a view."""
    return whole[shard.first : shard.first + shard.size]


def _show_whole(module: Any, state_dict: dict, prefix: str, local_metadata: Any) -> None:
    for name, shard in module.sharded_rows.items():
        if shard.is_whole:
            continue
        gathered = getattr(module, 'gathered_rows', {})
        if name in gathered:
            state_dict[prefix + name] = gathered[name]
        elif prefix + name in state_dict:
            state_dict[prefix + name] = _as_dtensor(state_dict[prefix + name], shard)


def _as_dtensor(rows: Tensor, shard: RowShard) -> Tensor:
    from torch.distributed.device_mesh import DeviceMesh  # slow imports, only where rows are sharded
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh(rows.device.type, torch.arange(num_processes()))
    shape = torch.Size([shard.total, *rows.shape[1:]])
    return DTensor.from_local(rows.detach(), mesh, [Shard(0)], run_check=False, shape=shape, stride=rows.stride())


def _take_own_rows(
    module: Any,
    state_dict: dict,
    prefix: str,
    local_metadata: Any,
    strict: bool,
    missing_keys: list,
    unexpected_keys: list,
    error_msgs: list,
) -> None:
    for name, shard in module.sharded_rows.items():
        value = state_dict.get(prefix + name)
        if value is None or shard.is_whole:
            continue
        shape = (shard.total, *getattr(module, name).shape[1:])
        if tuple(value.shape) != shape:
            # torch would compare with the shape of the rows here, which says little to the reader.
            error_msgs.append(
                f'size mismatch for {prefix}{name}: copying a param with shape {tuple(value.shape)} from '
                f'checkpoint, the shape in current model is {shape}, spread over {num_processes()} '
                'processes.'
            )
            state_dict[prefix + name] = getattr(module, name).detach()
        elif is_dtensor(value):
            state_dict[prefix + name] = value.to_local()
        else:
            state_dict[prefix + name] = own_rows(value, shard)
