"""The margin of CosFace, and the combined margins of SphereFace, ArcFace and CosFace."""

import math
from typing import Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import at_least_float32
from .angular_margin import (
    BEYOND_PI,
    GRADIENTS,
    angular_margin_on_target,
    apply_with_gradient,
    one_margin_each,
    sine_of,
)

__all__ = ['additive_cosine_margin_on_target', 'combined_margin_on_target']


def additive_cosine_margin_on_target(target_cosine: Tensor, margin: Union[float, Tensor] = 0.35) -> Tensor:
    r"""Return CosFace's :math:`\cos\theta - m` for the cosines to the target classes.

    Eq. 4 of `CosFace <https://arxiv.org/abs/1801.09414>`_, without the scale. All public codes agree on it.

    Args:
        target_cosine (Tensor): Any shape and floating dtype.
        margin (float | Tensor): m, in [0, 2]; one for all, or, as a tensor whose values are not looked at, one for each
            cosine. Defaults to 0.35, as in the paper (InsightFace's class has 0.4).

    Returns:
        Tensor: Same shape; float32, or float64 for a float64 input.

    Raises:
        ValueError: If the margin is out of range, or the number of margins is wrong.

    Example:
        >>> additive_cosine_margin_on_target(torch.tensor([0.75, 0.]), margin=0.25)
        tensor([ 0.5000, -0.2500])
    """
    if isinstance(margin, Tensor):
        margin = one_margin_each('additive_cosine_margin', margin, target_cosine)
    else:
        check_number('additive_cosine_margin', 'margin', margin, 0, 2, advice='It is taken off the cosine.')
    return at_least_float32(target_cosine) - margin


def combined_margin_on_target(
    target_cosine: Tensor,
    m1: float = 1.0,
    m2: Union[float, Tensor] = 0.3,
    m3: float = 0.2,
    beyond_pi: str = 'linear',
    gradient: str = 'analytic',
) -> Tensor:
    r"""Return :math:`\cos(m_1 \theta + m_2) - m_3` for the cosines to the target classes.

    Eq. 4 of `ArcFace <https://arxiv.org/abs/1801.07698>`_, without the scale: SphereFace's, ArcFace's and CosFace's
    margin together. With :math:`m_1 = 1` and :math:`m_3 = 0` it is :func:`angular_margin_on_target`, in its
    value and in its gradient; with :math:`m_1 = 1` and :math:`m_2 = 0` it is CosFace.

    Past :math:`m_1 \theta + m_2 = \pi` the cosine would rise again with the angle:

    - ``'linear'`` (default): for :math:`m_1 = 1` the fallback of ArcFace; else
      :math:`\cos\theta - \cos\theta_\pi - 1`, where :math:`\theta_\pi` is the angle that is turned to :math:`\pi`: no
      step, and slope 1.
    - ``'easy'``: the angular margin acts only where :math:`\cos\theta > 0`.
    - ``'clip'``: the turned angle stops at :math:`\pi`, without gradient beyond.
    - ``'wrap'``: the cosine as it stands, as in InsightFace. Its ``CombinedMarginLoss`` has the value of ``'wrap'``
      and the gradient ``'straight_through'`` for (1, m2, 0), takes (1, 0, m3) as CosFace, leaves m2 out where both are
      given, and has no form for another m1; the older MXNet code is ``'wrap'`` with the analytic gradient.

    Args:
        target_cosine (Tensor): Any shape and floating dtype. Values that rounding carried past +-1 are taken as +-1.
        m1 (float): Factor of the angle, at least 1. Defaults to 1.
        m2 (float | Tensor): Added to the angle, radians, in [0, pi); one for all, or, as a tensor whose values are not
            looked at, one for each cosine. Defaults to 0.3, with 0.2 for ``m3`` the paper's best combination.
        m3 (float): Taken off the cosine, in [0, 2]. Defaults to 0.2.
        beyond_pi (str): One of ``BEYOND_PI``.
        gradient (str): 'analytic' (default) or 'straight_through', see :func:`angular_margin_on_target`.

    Returns:
        Tensor: Same shape; float32, or float64 for a float64 input.

    Raises:
        ValueError: If a margin is out of range, a switch is unknown, or the number of margins is wrong.

    Example:
        >>> cosine = torch.tensor([1.0]).cos()
        >>> out = combined_margin_on_target(cosine, m1=1.2, m2=0.3, m3=0.1)
        >>> torch.isclose(out, torch.tensor([math.cos(1.2 * 1.0 + 0.3) - 0.1]))
        tensor([True])
    """
    check_number('combined_margin', 'm1', m1, 1, 8)
    check_number('combined_margin', 'm3', m3, 0, 2, advice='It is taken off the cosine.')
    check_choice('combined_margin', 'beyond_pi', beyond_pi, BEYOND_PI)
    check_choice('combined_margin', 'gradient', gradient, GRADIENTS)
    if isinstance(m2, Tensor):
        m2 = one_margin_each('combined_margin', m2, target_cosine)
    else:
        check_number('combined_margin', 'm2', m2, 0, math.pi, high_open=True, advice='It is an angle in radians.')
    if m1 == 1:
        return angular_margin_on_target(target_cosine, m2, beyond_pi, gradient) - m3
    turned = apply_with_gradient(
        at_least_float32(target_cosine), lambda cosine: _multiplied(cosine, m1, m2, beyond_pi), gradient
    )
    return turned - m3


def _multiplied(cosine: Tensor, m1: float, m2: Union[float, Tensor], beyond_pi: str) -> Tensor:
    # atan2 and not acos: its derivative is that of sine_of, which stays finite at +-1.
    angle = m1 * torch.atan2(sine_of(cosine), cosine) + m2
    turned = angle.cos()
    if beyond_pi == 'wrap':
        return turned
    if beyond_pi == 'easy':
        return torch.where(cosine > 0, turned, cosine)
    past = angle.detach() >= math.pi
    if beyond_pi == 'clip':
        return turned.masked_fill(past, -1)
    theta_pi = (math.pi - m2) / m1
    edge = theta_pi.cos() if isinstance(theta_pi, Tensor) else math.cos(theta_pi)
    return torch.where(past, cosine - edge - 1, turned)
