"""Tensors that are spread over processes: their common norm, and state that fits their shards."""
import math
from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

__all__ = ['Shards', 'is_dtensor', 'to_layout_of']


def is_dtensor(value: Any) -> bool:
    """Whether ``value`` is a ``torch.distributed.tensor.DTensor`` (FSDP2, tensor parallelism)."""
    # DTensor is not imported before somebody has made one: the import is slow.
    return type(value).__name__ == 'DTensor' or type(getattr(value, 'data', None)).__name__ == 'DTensor'


class Shards:
    """How the parameters of a model are spread over processes.

    Args:
        model (nn.Module, optional): The model as it is trained, wrapped or not. None stands for a plain one.

    Attributes:
        is_fsdp1 (bool): It is wrapped by ``FullyShardedDataParallel``: each process holds flat pieces.
        can_climb_alone (bool): Each process holds all weights, so it may move them by itself for a moment.
    """

    def __init__(self, model: Optional[nn.Module] = None) -> None:
        self._group: Any = None
        self.is_fsdp1 = False
        kinds = set() if model is None else {base.__name__ for base in type(model).__mro__}
        if 'FullyShardedDataParallel' in kinds:
            self.is_fsdp1 = True
            # With NO_SHARD every process holds everything, as under DDP.
            if model.sharding_strategy.name != 'NO_SHARD':
                self._group = model.process_group
        self.can_climb_alone = not self.is_fsdp1 and not (
            model is not None and any(is_dtensor(param) for param in model.parameters()))

    def norm(self, tensors: Sequence[Tensor], norm_type: float = 2.) -> Tensor:
        """Norm of all tensors as one vector, over all processes that share them; a scalar on the first one's device."""
        sharded = [tensor for tensor in tensors if is_dtensor(tensor)]
        plain = [tensor for tensor in tensors if tensor.numel() and not is_dtensor(tensor)]
        norms = [torch.nn.utils.get_total_norm(sharded, norm_type).full_tensor()] if sharded else []
        if plain:
            norms += torch._foreach_norm(plain, norm_type, _at_least_float32(plain[0].dtype))
        if not norms:
            total = torch.zeros((), device=self._device())
        else:
            device, dtype = norms[0].device, _at_least_float32(norms[0].dtype)
            total = torch.linalg.vector_norm(torch.stack([norm.to(device, dtype) for norm in norms]), norm_type)
        if self._group is None:
            return total
        if math.isinf(norm_type):
            torch.distributed.all_reduce(total, torch.distributed.ReduceOp.MAX, group=self._group)
            return total
        total = total**norm_type
        torch.distributed.all_reduce(total, group=self._group)
        return total**(1. / norm_type)

    def inner(self, left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
        """Inner product of two lists of tensors, each taken as one vector; a scalar."""
        total = torch.zeros((), device=left[0].device if left and not is_dtensor(left[0]) else self._device())
        for one, other in zip(left, right, strict=True):
            product = (one * other).sum()
            total = total + (product.full_tensor() if is_dtensor(product) else product).to(total.device)
        if self._group is not None:
            torch.distributed.all_reduce(total, group=self._group)
        return total

    @staticmethod
    def _device() -> torch.device:
        return torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else torch.device('cpu')


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def to_layout_of(value: Tensor, like: Tensor) -> Tensor:
    """Bring a loaded tensor to the device, dtype and (for DTensors) the sharding of ``like``.

    Raises:
        ValueError: If the shapes differ.
    """
    if value.shape != like.shape:
        raise ValueError(f'shape {tuple(value.shape)} was saved, and {tuple(like.shape)} is wanted')
    if is_dtensor(like) and not is_dtensor(value):
        from torch.distributed.tensor import distribute_tensor
        return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements)
    return value.to(like.device, like.dtype).clone()
