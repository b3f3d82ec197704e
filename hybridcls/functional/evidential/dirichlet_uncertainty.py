"""The uncertainty of a Dirichlet distribution over class probabilities: epistemic, aleatoric, total."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..full_precision import to_float64
from .evidential_losses import dirichlet_kl_to_uniform

__all__ = ['DirichletUncertainty', 'dirichlet_entropy', 'dirichlet_uncertainty']

_SERIES_FROM = 64.0  # from here on the series below is exact to float64


class DirichletUncertainty(NamedTuple):
    """Uncertainties from :func:`dirichlet_uncertainty`; shape (N,) each, large where the prediction is uncertain.

    Args:
        vacuity (Tensor): K / S in (0, 1]: 1 without any evidence.
        aleatoric (Tensor): Expected entropy, nats: the classes overlap.
        epistemic (Tensor): Mutual information of label and distribution, nats, >= 0: the network has not seen such.
        total (Tensor): Entropy of the mean, nats: the sum of the two.
    """

    vacuity: Tensor
    aleatoric: Tensor
    epistemic: Tensor
    total: Tensor


def dirichlet_uncertainty(evidence: Tensor) -> DirichletUncertainty:
    r"""Split the entropy of :math:`Dir(\alpha)`'s mean into epistemic and aleatoric uncertainty.

    With :math:`\alpha = e + 1`, :math:`\hat p = \alpha / S` and :math:`g(x) = \psi(x + 1) - \log x`:

    .. math::
        \underbrace{-\sum_j \hat p_j \log \hat p_j}_{total} =
        \underbrace{\psi(S + 1) - \sum_j \hat p_j\, \psi(\alpha_j + 1)}_{aleatoric:\ E[H(p)]} +
        \underbrace{\sum_j \hat p_j\, g(\alpha_j) - g(S)}_{epistemic:\ I(y; p)}

    All three are exact (eq. 15 and 16 of `Malinin and Gales <https://arxiv.org/abs/1802.10501>`_). The mutual
    information is not taken as the difference of the other two, in which float32 leaves nothing, or something
    negative, where there is much evidence: g is a small positive number that is computed as such.

    Args:
        evidence (Tensor): e >= 0, shape (N, K), any floating dtype; computed in float64.

    Returns:
        DirichletUncertainty: float32 or, for float64, float64.

    Example:
        >>> nothing_seen, torn, sure = torch.tensor([[0., 0.], [1e6, 1e6], [1e6, 0.]]).split(1)
        >>> for evidence in (nothing_seen, torn, sure):
        ...     print([f'{value.item():.4f}' for value in dirichlet_uncertainty(evidence)])
        ['1.0000', '0.5000', '0.1931', '0.6931']
        ['0.0000', '0.6931', '0.0000', '0.6931']
        ['0.0000', '0.0000', '0.0000', '0.0000']
    """
    dtype = torch.float64 if evidence.dtype == torch.float64 else torch.float32
    alpha = to_float64(evidence) + 1
    strength = alpha.sum(1, keepdim=True)
    mean = alpha / strength
    aleatoric = (mean * (torch.digamma(strength + 1) - torch.digamma(alpha + 1))).sum(1)
    epistemic = ((mean * _digamma_above_log(alpha)).sum(1) - _digamma_above_log(strength).squeeze(1)).clamp_min(0)
    vacuity = alpha.shape[1] / strength.squeeze(1)
    found = (vacuity, aleatoric, epistemic, aleatoric + epistemic)
    return DirichletUncertainty(*(value.to(dtype).to(evidence.device) for value in found))


def dirichlet_entropy(evidence: Tensor) -> Tensor:
    r"""Return the differential entropy of :math:`Dir(e + 1)` in nats: at most :math:`-\log\Gamma(K)`, without evidence.

    It is minus the divergence from the uniform distribution, but for that constant; as a score for the unknown it
    ranks like it.

    Args:
        evidence (Tensor): e >= 0, shape (N, K), any floating dtype.

    Returns:
        Tensor: Shape (N,), float64; higher is more unsure, down to minus infinity.

    Example:
        >>> dirichlet_entropy(torch.tensor([[0., 0., 0.], [9., 0., 0.]]))  # the uniform density on a triangle is 2
        tensor([-0.6931, -2.9823], dtype=torch.float64)
    """
    return -dirichlet_kl_to_uniform(evidence) - math.lgamma(evidence.shape[1])


def _digamma_above_log(x: Tensor) -> Tensor:
    """Return psi(x + 1) - log x for x >= 1, to float64's relative precision also where both are large."""
    inverse = x.reciprocal()
    square = inverse.square()
    series = inverse * (1 / 2 - inverse * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240))))
    return torch.where(x < _SERIES_FROM, torch.digamma(x + 1) - x.log(), series)
