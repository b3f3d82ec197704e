"""Vector scaling: a factor and an offset for the logit of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..full_precision import to_float64
from .temperature_scaling import fit_temperature, minimize_by_lbfgs

__all__ = ['fit_vector']


def fit_vector(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight and bias with the smallest cross entropy of ``softmax(logits * weight + bias)``.

    Vector scaling of `Guo et al. <https://arxiv.org/abs/1706.04599>`_, section 4.2: matrix scaling with a diagonal
    matrix. (torch-uncertainty's has no bias.) Minimized by L-BFGS in float64, from the best temperature on. It may
    change predictions, and needs more images than a temperature: 2 C numbers are fitted.

    Args:
        logits (Tensor): Finite, shape (N, C).
        labels (Tensor): int64, shape (N,), each class at least once.

    Returns:
        tuple[Tensor, Tensor]: float64, shape (C,) each.

    Raises:
        ValueError: As :func:`fit_temperature`.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)  # the second class is right in 2 of 4 cases
        >>> weight, bias = fit_vector(logits, torch.tensor([0, 1, 0, 0, 0, 1, 1, 0]))
        >>> (logits[:2] * weight + bias).softmax(1)
        tensor([[0.7500, 0.2500], [0.5000, 0.5000]], dtype=torch.float64)
    """
    logits = to_float64(logits)
    labels = labels.to(logits.device)
    inverse = 1 / fit_temperature(logits, labels)
    unit = logits.std()
    scaled = logits / unit
    weight = torch.full((logits.shape[1],), inverse * float(unit), dtype=torch.float64, device=logits.device)
    bias = torch.zeros_like(weight)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    minimize_by_lbfgs(lambda: F.cross_entropy(scaled * weight + bias, labels), parameters)
    return weight.detach() / unit, bias.detach() - bias.detach().mean()
