"""Clip the gradient of a step."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from hybridcls.checks import check_known_keys, check_number
from hybridcls.distributed.layouts import Shards

__all__ = ['check_clip_grad', 'clip_pieces']

_KEYS = dict(norm=['max_norm', 'norm_type', 'error_if_nonfinite', 'foreach'], value=['clip_value', 'foreach'])


def check_clip_grad(caller: str, clip_grad: Optional[dict]) -> Optional[dict]:
    """Return a copy of ``clip_grad`` (mmengine takes ``type`` out of it), with the keys that torch's functions have.

    Raises:
        TypeError: If it is no dict, or has an unknown key.
        ValueError: If the type is unknown, or the number that clips is missing or negative.

    Example:
        >>> check_clip_grad('me', dict(max_norm=5.0))
        {'max_norm': 5.0}
    """
    if clip_grad is None:
        return None
    if not isinstance(clip_grad, dict) or not clip_grad:
        raise TypeError(
            f'{caller}: expected clip_grad to be a dict such as dict(max_norm=5.0), or None, got {clip_grad!r}.'
        )
    kind = clip_grad.get('type', 'norm')
    if kind not in _KEYS:
        raise ValueError(f"{caller}: expected clip_grad.type to be 'norm' or 'value', got {kind!r}.")
    check_known_keys(f'{caller} (clip_grad)', clip_grad, ['type', *_KEYS[kind]])
    limit = _KEYS[kind][0]
    if limit not in clip_grad:
        raise ValueError(f'{caller}: expected {limit} in clip_grad, got {dict(clip_grad)}.')
    check_number(caller, f'clip_grad.{limit}', clip_grad[limit], 0)
    return dict(clip_grad)


def clip_pieces(
    params: Sequence[nn.Parameter],
    shards: Shards,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: Optional[bool] = None,
) -> Tensor:
    """Clip by norm, as ``torch.nn.utils.clip_grad_norm_``, gradients of which each process holds a piece.

    Args:
        params (Sequence[nn.Parameter]): Whose ``.grad`` is clipped in place; there may be none.
        shards (Shards): Which processes hold the other pieces.
        max_norm (float): Norm of the whole gradient afterwards, at most.
        norm_type (float): p of the norm; ``inf`` works.
        error_if_nonfinite (bool): Raise for a norm that is NaN or infinite.
        foreach (bool, optional): Taken for the sake of torch's signature; foreach operations are used in any case.

    Returns:
        Tensor: Norm of the whole gradient before.

    Raises:
        RuntimeError: If the norm is not finite and that is an error.
    """
    del foreach
    grads = [param.grad for param in params if param.grad is not None]
    norm = shards.norm(grads, [param for param in params if param.grad is not None], float(norm_type))
    if error_if_nonfinite and not torch.isfinite(norm):
        raise RuntimeError(f'clip_grad: the norm of the gradient is {float(norm)}.')
    if grads:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, factor.to(grads[0].device, grads[0].dtype))
    return norm
