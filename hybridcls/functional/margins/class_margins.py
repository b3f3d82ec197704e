"""Margins that are larger for classes with fewer images."""

import math

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import to_float64

__all__ = ['MARGIN_RULES', 'margins_from_counts']

MARGIN_RULES = ('range', 'proportional')


def margins_from_counts(
    counts: Tensor, low: float = 0.05, high: float = 0.5, power: float = -0.25, rule: str = 'range'
) -> Tensor:
    r"""Return the margin of each class from its number n of images: the rarer, the larger.

    - ``'range'`` (default): :math:`m = low + (high - low) \frac{n^p - \min n^p}{\max n^p - \min n^p}`, so that the most
      frequent class gets ``low`` and the rarest ``high``. The `third place of Google Landmark Recognition 2020
      <https://arxiv.org/abs/2010.05350>`_ and mmpretrain's ``SetAdaptiveMarginsHook``. Where all classes have as many
      images (0 / 0 there), all get ``high``.
    - ``'proportional'``: :math:`m = high \cdot n^p / \max n^p`, the margins of `LDAM
      <https://arxiv.org/abs/1906.07413>`_ (p = -1/4); ``low`` plays no part.

    A class without images counts as if it had one.

    Args:
        counts (Tensor): Images of each class, integers >= 0, shape (C,).
        low (float): The smallest margin, >= 0. Defaults to 0.05.
        high (float): The largest, in [low, pi). Defaults to 0.5.
        power (float): p, < 0. Defaults to -0.25.
        rule (str): One of ``MARGIN_RULES``.

    Returns:
        Tensor: Margins, float32, shape (C,).

    Raises:
        ValueError: If a number is out of range, the rule is unknown, or ``counts`` is no vector of counts.

    Example:
        >>> margins_from_counts(torch.tensor([10000, 1, 16]), low=0.1, high=0.5)
        tensor([0.1000, 0.5000, 0.2778])
    """
    check_choice('class margins', 'rule', rule, MARGIN_RULES)
    check_number('class margins', 'high', high, 0, math.pi, high_open=True, advice='It is an angle in radians.')
    check_number('class margins', 'low', low, 0, high)
    check_number(
        'class margins',
        'power',
        power,
        high=0,
        high_open=True,
        advice='A power below 0 gives rare classes the larger margins.',
    )
    if counts.dim() != 1 or not len(counts) or bool((counts < 0).any()):
        raise ValueError(f'class margins: expected one count >= 0 for each class, shape (C,), got {counts}.')
    weight = to_float64(counts).clamp(min=1).pow(power)
    if rule == 'proportional':
        return (high * weight / weight.max()).float()
    span = weight.max() - weight.min()
    share = (weight - weight.min()) / span if span > 0 else torch.ones_like(weight)
    return (low + (high - low) * share).float()
