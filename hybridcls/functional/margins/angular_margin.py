"""The additive angular margin of ArcFace."""

import math
from collections.abc import Callable
from typing import Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import at_least_float32

__all__ = ['BEYOND_PI', 'GRADIENTS', 'additive_angular_margin', 'angular_margin_on_target', 'sine_of']

BEYOND_PI = ('linear', 'easy', 'clip', 'wrap')
GRADIENTS = ('analytic', 'straight_through')


def additive_angular_margin(
    cosine: Tensor, labels: Tensor, margin: float = 0.5, beyond_pi: str = 'linear', gradient: str = 'analytic'
) -> Tensor:
    r"""Add ``margin`` to the angle to the target class: :math:`\cos\theta_y` becomes :math:`\cos(\theta_y + m)`.

    Eq. 3 of `ArcFace <https://arxiv.org/abs/1801.07698>`_, without the scale. The other classes keep their cosines.
    See :func:`angular_margin_on_target` for the switches.

    Args:
        cosine (Tensor): Cosines between embeddings and class weights, shape (B, C), any floating dtype. Not changed.
        labels (Tensor): Target classes, integers in [0, C), shape (B,).
        margin (float): m in radians, in [0, pi). Defaults to 0.5.
        beyond_pi (str): What happens past theta + m = pi. Defaults to 'linear'.
        gradient (str): 'analytic' (default) or 'straight_through'.

    Returns:
        Tensor: Shape (B, C), dtype of ``cosine``; the arithmetic in between is float32 at least.

    Raises:
        ValueError: If the margin, a switch or a shape is out of range.

    Example:
        >>> cosine = torch.tensor([[0.2, math.cos(1.0), -0.7]])
        >>> turned = additive_angular_margin(cosine, torch.tensor([1]), margin=0.5)
        >>> round(math.acos(turned[0, 1]), 4), turned[0, 0].item() == cosine[0, 0].item()
        (1.5, True)
    """
    if cosine.dim() != 2 or labels.shape != cosine.shape[:1]:
        raise ValueError(
            f'additive_angular_margin: expected cosines (B, C) and labels (B,), got {tuple(cosine.shape)} and '
            f'{tuple(labels.shape)}.'
        )
    own = labels.unsqueeze(1)
    target = angular_margin_on_target(cosine.gather(1, own).squeeze(1), margin, beyond_pi, gradient)
    return cosine.scatter(1, own, target.to(cosine.dtype).unsqueeze(1))


def angular_margin_on_target(
    target_cosine: Tensor, margin: Union[float, Tensor] = 0.5, beyond_pi: str = 'linear', gradient: str = 'analytic'
) -> Tensor:
    r"""Return :math:`\cos(\theta + m)` for the cosines to the target classes.

    Past :math:`\theta = \pi - m` the cosine would rise again with the angle. Public codes differ there:

    - ``'linear'`` (default): :math:`\cos\theta - m \sin m`, the choice of InsightFace's class ``ArcFace``. It falls all
      the way: at :math:`\pi - m` it steps down by :math:`\cos m + m \sin m - 1` (0.117 for m = 0.5; a step down for
      any m < 2.33).
    - ``'easy'``: the margin acts only where :math:`\cos\theta > 0`, else :math:`\cos\theta` (InsightFace's
      ``easy_margin``).
    - ``'clip'``: the angle stops at :math:`\pi`, so the value is -1 and the gradient 0 (the ArcFace in the AdaFace
      repository, up to its safety distance of 1e-4 radians).
    - ``'wrap'``: :math:`\cos(\theta + m)` as it stands; past :math:`\pi` the analytic gradient has the wrong sign.

    The gradient is the derivative of that value (``'analytic'``, default): :math:`\sin(\theta + m) / \sin\theta` times
    the incoming one, as in InsightFace's class ``ArcFace``. Codes that write the margin into the logits under
    ``no_grad`` replace that factor by 1: ``'straight_through'``, which together with ``'wrap'`` is the
    ``CombinedMarginLoss`` that InsightFace's training script uses.

    At :math:`\cos\theta = \pm 1` the analytic factor is infinite; where the sine is below the square root of the
    dtype's resolution (3e-4 in float32) it is :math:`\cos m` instead. Little is lost: the cosine's own derivative with
    respect to the embedding has length :math:`\sin\theta`.

    Args:
        target_cosine (Tensor): Any shape and floating dtype. Values that rounding carried past +-1 are taken as +-1.
        margin (float | Tensor): m in radians, in [0, pi). A tensor has one margin for each cosine; what is in it is
            not looked at, which would wait for the device, and it gets no gradient.
        beyond_pi (str): One of ``BEYOND_PI``.
        gradient (str): One of ``GRADIENTS``.

    Returns:
        Tensor: Same shape; float32, or float64 for a float64 input.

    Raises:
        ValueError: If the margin is outside [0, pi), a switch is unknown, or the number of margins is wrong.

    Example:
        >>> angular_margin_on_target(torch.tensor([1.0, 0.0, -1.0]), margin=0.5)
        tensor([ 0.8776, -0.4794, -1.2397])
    """
    if isinstance(margin, Tensor):
        margin = one_margin_each('additive_angular_margin', margin, target_cosine)
    else:
        check_number(
            'additive_angular_margin',
            'margin',
            margin,
            0,
            math.pi,
            high_open=True,
            advice='Margins are radians: for 28.6 degrees pass math.radians(28.6).',
        )
    check_choice('additive_angular_margin', 'beyond_pi', beyond_pi, BEYOND_PI)
    check_choice('additive_angular_margin', 'gradient', gradient, GRADIENTS)
    return apply_with_gradient(
        at_least_float32(target_cosine), lambda cosine: _turned(cosine, margin, beyond_pi), gradient
    )


def one_margin_each(caller: str, margins: Tensor, target_cosine: Tensor) -> Tensor:
    """Convert ``margins`` to the dtype of the computation, without gradient.

    Raises:
        ValueError: If they are not as many as the cosines.
    """
    if margins.shape != target_cosine.shape:
        raise ValueError(
            f'{caller}: expected a margin for each cosine, {tuple(target_cosine.shape)}, got {tuple(margins.shape)}.'
        )
    return margins.detach().to(at_least_float32(target_cosine).dtype)


def apply_with_gradient(cosine: Tensor, function: Callable[[Tensor], Tensor], gradient: str) -> Tensor:
    """Apply ``function(cosine)`` with its own derivative or, for straight-through, with the derivative 1."""
    if gradient == 'analytic':
        return function(cosine)
    with torch.no_grad():
        value = function(cosine)
    return value + (cosine - cosine.detach())


def sine_of(cosine: Tensor) -> Tensor:
    """Return the sine of an angle in [0, pi], with a derivative that stays finite at +-1 (0 there).

    Args:
        cosine (Tensor): Float32 or float64; within [-1, 1] up to rounding.
    """
    squared = (1 - cosine) * (1 + cosine)  # 1 - cosine is exact near 1, where 1 - cosine ** 2 is not
    smallest = torch.finfo(cosine.dtype).eps
    # The clamp keeps sqrt's infinite derivative out of the branch that is not taken: 0 * inf would be NaN.
    return torch.where(squared > smallest, squared.clamp(min=smallest).sqrt(), squared.detach().clamp(min=0).sqrt())


def _turned(cosine: Tensor, margin: Union[float, Tensor], beyond_pi: str) -> Tensor:
    cos_margin: Union[float, Tensor]
    sin_margin: Union[float, Tensor]
    if isinstance(margin, Tensor):
        cos_margin, sin_margin = margin.cos(), margin.sin()
    else:
        cos_margin, sin_margin = math.cos(margin), math.sin(margin)
    turned = cosine * cos_margin - sine_of(cosine) * sin_margin
    if beyond_pi == 'wrap' or (not isinstance(margin, Tensor) and margin == 0):
        return turned
    if beyond_pi == 'easy':
        return torch.where(cosine > 0, turned, cosine)
    past = cosine <= -cos_margin  # theta >= pi - m
    fallback = cosine - margin * sin_margin if beyond_pi == 'linear' else torch.full_like(cosine, -1)
    return torch.where(past, fallback, turned)
