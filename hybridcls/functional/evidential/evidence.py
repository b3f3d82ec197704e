"""Convert a network's outputs to evidence for classes, which is never negative."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.checks import check_choice, check_number

from ..full_precision import at_least_float32

__all__ = ['EVIDENCE_KINDS', 'evidence_from_logits']

EVIDENCE_KINDS = ('exp', 'softplus', 'relu', 'exp_over_10')


def evidence_from_logits(logits: Tensor, kind: str = 'exp', clamp: float = 10.0) -> Tensor:
    r"""Return the evidence :math:`e \ge 0`; the concentration of the Dirichlet distribution is :math:`\alpha = e + 1`.

    - ``'exp'``: :math:`e^z` with z kept in [-clamp, clamp]. Without the bound :math:`e^{12}` is infinite in float16.
      Beyond it there is no gradient.
    - ``'softplus'``: :math:`\log(1 + e^z)`.
    - ``'relu'``: :math:`\max(z, 0)`, as in `Sensoy et al. <https://arxiv.org/abs/1806.01768>`_. A sample whose own
      class has no evidence gets no gradient that would give it some, and is never learned (`Pandey and Yu, 2023
      <https://proceedings.mlr.press/v202/pandey23a.html>`_); the others have a gradient everywhere within the bound.
    - ``'exp_over_10'``: :math:`e^{z / 10}` with z / 10 kept in [-clamp, clamp], the exponential of the notebook that
      Sensoy et al. published with the paper (muratsensoy.github.io/uncertainty.html).

    Args:
        logits (Tensor): z, any shape and floating dtype.
        kind (str): ``'exp'``, ``'softplus'``, ``'relu'`` or ``'exp_over_10'``. Defaults to ``'exp'``.
        clamp (float): The bound of the exponents, > 0; at 10 evidence ends at 22,026. Defaults to 10.

    Returns:
        Tensor: The same shape, float32, or float64 for float64 logits, whatever autocast is in force.

    Raises:
        ValueError: If the kind is unknown or the bound not above zero.

    Example:
        >>> evidence_from_logits(torch.tensor([-1., 0., 100.], dtype=torch.float16), clamp=2.)
        tensor([0.3679, 1.0000, 7.3891])
    """
    check_choice('evidence_from_logits', 'kind', kind, EVIDENCE_KINDS)
    check_number('evidence_from_logits', 'clamp', clamp, 0, low_open=True)
    logits = at_least_float32(logits)
    if kind == 'exp_over_10':
        logits = logits / 10
    if kind in ('exp', 'exp_over_10'):
        return logits.clamp(-clamp, clamp).exp()
    return F.softplus(logits) if kind == 'softplus' else torch.relu(logits)
