"""Check whether a loaded state belongs to the weights beside it."""

from typing import NamedTuple, Optional

import torch

from hybridcls.compat.torch import is_dtensor
from hybridcls.distributed.layouts import Shards, is_row_shard

__all__ = ['LoadedState', 'fingerprint']

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # of numbers of so many bytes


class LoadedState(NamedTuple):
    """The weights and the progress that a loaded state belongs to; checked once, before the first update.

    mmengine's OptimWrapper passes on in its checkpoints what it does not know: slow weights, say, that are older than
    the weights beside them.

    Args:
        weights (list | None): :func:`fingerprint` of the weights that it was saved beside.
        done (int | None): Micro-batches that training had done.
        is_half_done (bool): Gradients of an update that is not complete are in it.
    """

    weights: Optional[list]
    done: Optional[int]
    is_half_done: bool

    def is_stale(self, weights: Optional[list], done: Optional[int]) -> bool:
        """Return whether training continued without the stages after the state was saved.

        Args:
            weights (list | None): :func:`fingerprint` of the weights now, if they are whole here.
            done (int | None): Micro-batches that training has done, if it is known: asked where weights cannot tell.
        """
        if weights is not None and self.weights is not None:
            return _differ(weights, self.weights)
        return self.done is not None and done is not None and self.done != done


def fingerprint(params: list, shards: Shards) -> Optional[list[Optional[int]]]:
    """Return a number per parameter that changes with any of its bits; None if this process holds only a part of it.

    Sums of integers: the same on all devices, in whichever order they are taken. None for all where this process holds
    no whole parameter.

    Args:
        params (list[nn.Parameter]): The parameters.
        shards (Shards): How they are spread over processes.

    Example:
        >>> fingerprint([torch.zeros(2), torch.tensor([0.0, 1.0])], Shards())
        [0, 1065353216]
    """
    if shards.is_fsdp1 or any(is_dtensor(param) for param in params):
        return None
    whole = [not is_row_shard(param) and param.element_size() in _BITS for param in params]
    sums = [
        param.detach().view(_BITS[param.element_size()]).sum(dtype=torch.int64)
        for param, is_whole in zip(params, whole, strict=True)
        if is_whole
    ]
    numbers = iter(torch.stack([one.to(sums[0].device) for one in sums]).tolist() if sums else ())  # one wait
    return [next(numbers) if is_whole else None for is_whole in whole]


def _differ(now: list, before: list) -> bool:
    """Return whether a parameter has changed, if it was complete both times."""
    return len(now) != len(before) or any(
        a is not None and b is not None and a != b for a, b in zip(now, before, strict=True)
    )
