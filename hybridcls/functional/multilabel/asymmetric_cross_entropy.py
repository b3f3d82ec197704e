"""The asymmetric loss of multi-label classification."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..full_precision import at_least_float32, outside_autocast

__all__ = ['asymmetric_loss']


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
    pos_weight: Optional[Tensor] = None,
    focal_gradient: bool = True,
) -> Tensor:
    r"""Return :math:`y L_+ + (1 - y) L_-` of each class, with separate focusing of positives and negatives.

    .. math::
        L_+ = -(1 - p)^{\gamma_+} \log p, \qquad
        L_- = -p_m^{\gamma_-} \log(1 - p_m), \qquad p_m = \max(p - m, 0), \qquad p = \sigma(x)

    Eq. 4 to 7 of `Ridnik et al. <https://arxiv.org/abs/2009.14119>`_; the defaults are those of the paper and of the
    authors' training script. Logarithms are taken of logits, not of probabilities: the authors' code clamps p at 1e-8,
    where a positive that is far off has no gradient any more. With all gammas and ``clip`` 0 it is the binary cross
    entropy.

    Args:
        logits (Tensor): x, shape (N, C), any floating dtype; computed in float32 at least, outside of autocast.
        targets (Tensor): y in [0, 1], the same shape; between 0 and 1 (mixup) it is the mean of both losses.
        gamma_pos (float): :math:`\gamma_+ \ge 0`. Defaults to 0.
        gamma_neg (float): :math:`\gamma_- \ge 0`. Defaults to 4.
        clip (float): m in [0, 1): negatives with a probability below it have no loss. Defaults to 0.05.
        pos_weight (Tensor, optional): A factor for :math:`L_+` of each class, shape (C,). Defaults to None.
        focal_gradient (bool): Whether the focusing factors have a gradient. The authors' training script says no
            (``disable_torch_grad_focal_loss=True``). Defaults to True.

    Returns:
        Tensor: Shape (N, C), float32 or float64.

    Example:
        >>> logits, targets = torch.tensor([[0., 0., -3.]]), torch.tensor([[1., 0., 0.]])
        >>> asymmetric_loss(logits, targets).round(decimals=4)  # the last is a probability of 0.0474
        tensor([[0.6931, 0.0245, 0.0000]])
    """
    with outside_autocast(logits):
        logits = at_least_float32(logits)
        targets = targets.to(logits.dtype)
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        if clip > 0:
            shifted = (logits.sigmoid() - clip).clamp(min=0)
            log_rest = torch.log1p(-shifted)
            above = shifted > 0  # the gradient of a power of 0 may be infinite
            focus_neg = torch.where(above, torch.where(above, shifted, 1.0).pow(gamma_neg), float(gamma_neg == 0))
        else:
            log_rest, focus_neg = log_not_p, (gamma_neg * log_p).exp()
        focus_pos = (gamma_pos * log_not_p).exp()
        if not focal_gradient:
            focus_pos, focus_neg = focus_pos.detach(), focus_neg.detach()
        positive = -focus_pos * log_p
        if pos_weight is not None:
            positive = positive * pos_weight
        return targets * positive - (1 - targets) * focus_neg * log_rest
