"""The uncertainty of several predictions: members of an ensemble, or draws of one network."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from ..full_precision import to_float64

__all__ = ['MixtureUncertainty', 'mixture_uncertainty']


class MixtureUncertainty(NamedTuple):
    """Uncertainties from :func:`mixture_uncertainty`; shape (N,) each, in nats, >= 0, large where it is uncertain.

    Args:
        aleatoric (Tensor): The mean entropy of the members.
        epistemic (Tensor): What they disagree about: mutual information of label and member.
        total (Tensor): Entropy of the mean member: the sum of the two.
    """

    aleatoric: Tensor
    epistemic: Tensor
    total: Tensor


def mixture_uncertainty(probabilities: Tensor, aleatoric: Optional[Tensor] = None) -> MixtureUncertainty:
    r"""Split the entropy of the mean of T members (`Depeweg et al. <https://arxiv.org/abs/1710.07283>`_, eq. 4).

    :math:`H(\bar p) = \frac1T \sum_t H(p_t) + I(y; t)`. The last term is the mean divergence of the members from their
    mean, and is computed as that, not as a difference that rounding makes negative.

    Args:
        probabilities (Tensor): Shape (T, N, K), rows that sum to 1, any floating dtype; computed in float64.
        aleatoric (Tensor, optional): (T, N), nats: the aleatoric part of each member that itself is unsure of its
            probabilities (an evidential network's). The rest of its entropy then is epistemic, too. Defaults to
            None: all of it is aleatoric.

    Returns:
        MixtureUncertainty: float32 or, for float64, float64.

    Example:
        >>> torn, agreed = torch.tensor([[[1., 0.], [0.5, 0.5]], [[0., 1.], [0.5, 0.5]]]).unbind(1)
        >>> for members in (torn, agreed):
        ...     print([f'{value.item():.4f}' for value in mixture_uncertainty(members.unsqueeze(1))])
        ['0.0000', '0.6931', '0.6931']
        ['0.6931', '0.0000', '0.6931']
    """
    dtype = torch.float64 if probabilities.dtype == torch.float64 else torch.float32
    device, probabilities = probabilities.device, to_float64(probabilities)
    mean = probabilities.mean(0)
    entropies = -torch.xlogy(probabilities, probabilities).sum(-1)
    disagreement = (torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, mean)).sum(-1)
    epistemic = disagreement.mean(0).clamp_min(0)
    expected = entropies.mean(0)
    if aleatoric is not None:
        own = to_float64(aleatoric).mean(0)
        epistemic = epistemic + (expected - own).clamp_min(0)
        expected = own
    return MixtureUncertainty(*(one.to(dtype).to(device) for one in (expected, epistemic, expected + epistemic)))
