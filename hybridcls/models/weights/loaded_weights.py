"""Compare a model with the checkpoint that it was loaded from, value by value."""

from collections.abc import Iterable, Mapping
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.compat.torch import is_dtensor
from hybridcls.distributed.sharded_parameters import own_rows, sharded_parameters

__all__ = ['differing_weights']


def differing_weights(model: nn.Module, weights: Mapping[str, Any], names: Optional[Iterable[str]] = None) -> list[str]:
    """Return the names of weights that the model lacks or that have other values there.

    Args:
        model (nn.Module): After loading.
        weights (Mapping[str, Tensor]): What was loaded, of any type of number: the model's decides.
        names (Iterable[str], optional): Which of them to compare. Defaults to None, all of them.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> differing_weights(model, dict(model.state_dict(), bias=torch.tensor([7.0])))
        ['bias']
    """
    own = model.state_dict()
    shards = {entry.name: entry for entry in sharded_parameters(model)}
    different = []
    for name in weights if names is None else names:
        mine, value = own.get(name), weights[name]
        if name in shards:  # each process has some of the rows
            mine, value = shards[name].param.detach(), own_rows(value, shards[name].shard)
        elif is_dtensor(mine):  # spread by FSDP, whose loader is its own
            continue
        if not _same(mine, value):
            different.append(name)
    return different


def _same(mine: Any, value: Any) -> bool:
    if not isinstance(mine, Tensor) or not isinstance(value, Tensor):
        return mine is not None and not isinstance(mine, Tensor) and not isinstance(value, Tensor)  # an _extra_state
    if mine.shape != value.shape:
        return False
    value = value.to(mine.device, mine.dtype)
    return torch.equal(mine, value) or bool(((mine == value) | (mine.isnan() & value.isnan())).all())
