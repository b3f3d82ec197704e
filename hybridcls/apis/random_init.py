"""Build a model without random initialization, if its weights are loaded right after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ['without_random_init']

_DRAWS = {
    getattr(torch.Tensor, name) for name in ('uniform_', 'normal_', 'erfinv_', 'bernoulli_', 'exponential_')
} | {
    getattr(nn.init, name)
    for name in (
        'uniform_', 'normal_', 'trunc_normal_', 'xavier_uniform_', 'xavier_normal_', 'kaiming_uniform_',
        'kaiming_normal_', 'orthogonal_',
    )
}  # fmt: skip


class _NoDraws(TorchFunctionMode):
    """Leave parameters as they are where random numbers would be drawn for them; buffers get theirs."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Optional[dict] = None
    ) -> Any:
        if func in _DRAWS:
            tensor = args[0] if args else (kwargs or {}).get('tensor')
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **(kwargs or {}))


@contextmanager
def without_random_init(active: bool = True) -> Iterator[None]:
    """Build models without drawing random weights: for those that are loaded from a checkpoint as a whole.

    Args:
        active (bool): False: a block like any other.
    """
    if not active:
        yield
        return
    with _NoDraws():
        yield
