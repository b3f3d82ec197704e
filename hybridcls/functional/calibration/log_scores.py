"""Convert probabilities to logits."""

import torch
from torch import Tensor

__all__ = ['log_scores']


def log_scores(scores: Tensor) -> Tensor:
    """Return the logarithm of probabilities: their logits, up to a constant in each row.

    It serves every head alike: what a temperature does to the logits of a linear or a margin head it does to these; of
    an evidential head they are those of the mean of its Dirichlet distribution, of an ensemble those of the mean score.

    Args:
        scores (Tensor): Probabilities, any shape. A 0 counts as the smallest number above 0 of their dtype.

    Returns:
        Tensor: float64, finite.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])
        >>> torch.allclose((log_scores(logits.softmax(1)) / 3).softmax(1), (logits.double() / 3).softmax(1))
        True
    """
    precision = torch.finfo(scores.dtype)
    return scores.double().clamp_min(precision.tiny * precision.eps).log()  # a subnormal number
