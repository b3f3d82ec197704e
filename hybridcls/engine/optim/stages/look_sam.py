"""LookSAM: reuse the direction of the last ascent in the updates between two ascents."""

import torch
from torch import Tensor

from hybridcls.compat.torch import is_view
from hybridcls.distributed.layouts import local_parts

from ..update.update import Update

__all__ = ['add_direction', 'add_gradient', 'orthogonal_direction']


def add_gradient(total: dict[int, Tensor], update: Update, positions: list[int], must_copy: bool) -> None:
    """Add the gradients of a micro-batch to ``total``, in place.

    Args:
        total (dict[int, Tensor]): Gradients of the micro-batches before, by position.
        update (Update): The update that they belong to.
        positions (list[int]): Of the parameters that have a gradient.
        must_copy (bool): The gradients will be changed in place.
    """
    for i, grad in zip(positions, update.gradients(positions), strict=True):
        if i in total:
            total[i].add_(grad)
        else:  # a view belongs to a bucket of DDP, which the second pass writes to
            total[i] = grad.clone() if must_copy or is_view(grad) else grad


def orthogonal_direction(update: Update, first: dict[int, Tensor]) -> dict[int, Tensor]:
    r"""Return the unit vector along the part of the gradient that is orthogonal to the first one.

    :math:`g_v` of Algorithm 1 of `LookSAM <https://arxiv.org/abs/2203.02714>`_, over its norm. Nothing if a gradient
    overflowed: the loss scaler skips the update, unless the second gradient alone is finite.

    Args:
        update (Update): With the second gradient.
        first (dict[int, Tensor]): The first gradient, by position; it is overwritten.
    """
    both = [i for i in update.with_gradient() if i in first]
    along, second = [first[i] for i in both], update.gradients(both)
    params = [update.params[i] for i in both]
    factor = update.shards.inner(along, second, params) / update.shards.inner(along, along, params).clamp(min=1e-30)
    for one, other in zip(local_parts(along), local_parts(second), strict=True):
        one.mul_(-factor.to(one.device)).add_(other)
    norm = update.shards.norm(along, params).clamp(min=1e-30)
    if update.may_overflow and not torch.isfinite(norm):
        return {}
    for one in local_parts(along):
        one.div_(norm.to(one.device))
    return dict(zip(both, along, strict=True))


def add_direction(update: Update, direction: dict[int, Tensor], alpha: float) -> None:
    """Add ``direction``, a unit vector, scaled to ``alpha`` times the gradient's norm, to the gradient."""
    where = update.with_gradient()
    norm = update.shards.norm(update.gradients(where), [update.params[i] for i in where])
    both = [i for i in where if i in direction]
    grads, directions = local_parts(update.gradients(both)), local_parts(direction[i] for i in both)
    factor = alpha * norm
    torch._foreach_addcmul_(grads, directions, [factor.to(grad.device, grad.dtype) for grad in grads])
