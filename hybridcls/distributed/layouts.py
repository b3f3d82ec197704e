"""Tensors sharded over processes: their common norm, and state that matches their shards."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.compat.torch import is_dtensor

__all__ = ['Shards', 'is_row_shard', 'local_parts', 'to_layout_of']


def is_row_shard(param: Any) -> bool:
    """Return whether this process holds some rows of the matrix ``param``, and other processes the rest."""
    return getattr(param, 'row_shard', None) is not None and not param.row_shard.is_whole


def local_parts(tensors: Iterable[Any]) -> list[Tensor]:
    """Return the local part of each tensor, for elementwise work: some foreach operations do not support DTensors.

    Without gradients; writing to a part writes to the tensor.
    """
    return [tensor.detach().to_local() if is_dtensor(tensor) else tensor for tensor in tensors]


class Shards:
    """The layout of a model's parameters over processes.

    Args:
        model (nn.Module, optional): The model as it is trained, wrapped or not. None stands for a plain one.

    Attributes:
        is_fsdp1 (bool): It is wrapped by ``FullyShardedDataParallel``: each process holds flat pieces.
        has_row_shards (bool): Of some parameters each process holds some rows (class weights).
        can_ascend_alone (bool): Each process holds all weights, so it may move them by itself for a moment.
        accumulates_alone (bool): Each process accumulates a gradient of its own until an update is due (DDP; class
            weights of which it holds rows are its own anyway).
    """

    def __init__(self, model: Optional[nn.Module] = None) -> None:
        self._group: Any = None
        self.is_fsdp1 = False
        kinds = set() if model is None else {base.__name__ for base in type(model).__mro__}
        if 'FullyShardedDataParallel' in kinds:
            self.is_fsdp1 = True
            # With NO_SHARD every process holds everything, as under DDP.
            fsdp: Any = model
            if fsdp.sharding_strategy.name != 'NO_SHARD':
                self._group = fsdp.process_group
        params = [] if model is None else list(model.parameters())
        self.has_row_shards = any(is_row_shard(param) for param in params)
        self.accumulates_alone = not (self.is_fsdp1 or any(is_dtensor(param) for param in params))
        self.can_ascend_alone = self.accumulates_alone and not self.has_row_shards

    def norm(self, tensors: Sequence[Tensor], params: Sequence[nn.Parameter], norm_type: float = 2.0) -> Tensor:
        """Return the norm of all tensors as one vector, over all processes that share them, on the first one's device.

        Args:
            tensors (Sequence[Tensor]): Gradients, say.
            params (Sequence[nn.Parameter]): The parameters that they belong to, one each: where each process holds
                some rows of one, its tensors are pieces, and those of the others are copies.
            norm_type (float): p of the norm; ``inf`` works.
        """
        rows = [tensor for tensor, param in zip(tensors, params, strict=True) if is_row_shard(param)]
        total = self._norm_of(
            [tensor for tensor, param in zip(tensors, params, strict=True) if not is_row_shard(param)], norm_type
        )
        if self._group is not None:
            total = _norm_over(total, norm_type, self._group)
        if rows:
            of_rows = _norm_over(self._norm_of(rows, norm_type), norm_type, None)
            total = torch.linalg.vector_norm(torch.stack([total, of_rows.to(total.device, total.dtype)]), norm_type)
        return total

    def inner(self, left: Sequence[Tensor], right: Sequence[Tensor], params: Sequence[nn.Parameter]) -> Tensor:
        """Return the inner product of two lists of tensors, each as one vector; ``params`` as for the norm."""
        total = torch.zeros((), device=left[0].device if left and not is_dtensor(left[0]) else self._device())
        of_rows = torch.zeros_like(total)
        for one, other, param in zip(left, right, params, strict=True):
            product: Any = (one * other).sum()
            product = (product.full_tensor() if is_dtensor(product) else product).to(total.device)
            if is_row_shard(param):
                of_rows = of_rows + product
            else:
                total = total + product
        if self._group is not None:
            torch.distributed.all_reduce(total, group=self._group)
        if any(is_row_shard(param) for param in params):
            torch.distributed.all_reduce(of_rows)
            total = total + of_rows
        return total

    def _norm_of(self, tensors: Sequence[Tensor], norm_type: float) -> Tensor:
        """Return the norm of the tensors on this process, and of complete DTensors."""
        sharded = [tensor for tensor in tensors if is_dtensor(tensor)]
        plain = [tensor for tensor in tensors if tensor.numel() and not is_dtensor(tensor)]
        norms: list[Any] = [torch.nn.utils.get_total_norm(sharded, norm_type)] if sharded else []
        norms = [norm.full_tensor() for norm in norms]
        if any(tensor.is_sparse for tensor in plain):
            raise TypeError(
                'ComposedOptimWrapper: expected dense gradients for a norm of all (clip_grad, SAM, MSAM), got a sparse '
                'one. Build nn.Embedding with sparse=False, or leave these out.'
            )
        if plain:
            norms += torch._foreach_norm(plain, norm_type, _at_least_float32(plain[0].dtype))
        if not norms:
            return torch.zeros((), device=tensors[0].device if tensors else self._device())
        device, dtype = norms[0].device, _at_least_float32(norms[0].dtype)
        return torch.linalg.vector_norm(torch.stack([norm.to(device, dtype) for norm in norms]), norm_type)

    @staticmethod
    def _device() -> torch.device:
        return torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else torch.device('cpu')


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _norm_over(norm: Tensor, norm_type: float, group: Any) -> Tensor:
    """Return the norm over all processes from the norm of the local part."""
    if math.isinf(norm_type):
        torch.distributed.all_reduce(norm, torch.distributed.ReduceOp.MAX, group=group)
        return norm
    total = norm**norm_type
    torch.distributed.all_reduce(total, group=group)
    return total ** (1.0 / norm_type)


def to_layout_of(value: Tensor, like: Any) -> Tensor:
    """Convert a loaded tensor to the device, dtype and sharding of ``like``, a DTensor or rows of a matrix.

    Raises:
        ValueError: If the shapes differ.
    """
    if is_row_shard(like) and value.shape == (like.row_shard.total, *like.shape[1:]):
        value = value[like.row_shard.first : like.row_shard.first + like.row_shard.size]
    if value.shape != like.shape:
        raise ValueError(f'expected shape {tuple(like.shape)}, got {tuple(value.shape)}')
    if is_dtensor(like) and not is_dtensor(value):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements)
    return value.to(like.device, like.dtype).clone()
