"""Logit adjustment: remove the effect of class frequencies in the training data."""

from torch import Tensor

from ..full_precision import to_float64
from .class_weights import check_counts

__all__ = ['adjustment_term', 'log_priors']


def log_priors(counts: Tensor) -> Tensor:
    r"""Return :math:`\log \pi_c`, the logarithm of the share of each class.

    `Menon et al. <https://arxiv.org/abs/2007.07314>`_ add :math:`\tau \log \pi_c` to the logits that the training loss
    sees (eq. 10), or take it away from those of a model trained without it (eq. 9, post-hoc): either way the largest
    logit minimises the mean of the classes' error rates. A class without images counts as if it had one.

    Args:
        counts (Tensor): Images of each class, >= 0, shape (C,).

    Returns:
        Tensor: float64, <= 0, shape (C,).

    Raises:
        ValueError: If ``counts`` is no vector of counts.

    Example:
        >>> import torch
        >>> log_priors(torch.tensor([2, 1, 0])).exp()
        tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    check_counts('log_priors', counts)
    counts = to_float64(counts).clamp(min=1)
    return (counts / counts.sum()).log()


def adjustment_term(log_probabilities: Tensor, targets: Tensor, adjustment: Tensor) -> Tensor:
    r"""Return the change of a cross entropy by adjusted logits, :math:`\log \sum_j p_j e^{a_j} - \sum_j y_j a_j`.

    For a loss that is no function of logits: :math:`-\log p_y` plus this term is the cross entropy of the logits
    :math:`\log p_j + a_j`. Added to an *expected* cross entropy (p a mean over a distribution of probabilities) it
    gives an upper bound of the expectation of the adjusted one, by Jensen's inequality.

    Args:
        log_probabilities (Tensor): :math:`\log p`, shape (N, C).
        targets (Tensor): Classes, int64 (N,), or probabilities y, floating (N, C).
        adjustment (Tensor): a, shape (C,).

    Returns:
        Tensor: Shape (N,), of the dtype of ``log_probabilities``.

    Example:
        >>> import torch
        >>> logits, bias, labels = torch.tensor([[1., 0.]]), torch.tensor([0.5, -0.5]), torch.tensor([1])
        >>> term = adjustment_term(logits.log_softmax(1), labels, bias)
        >>> entropy = torch.nn.functional.cross_entropy
        >>> bool(torch.isclose(entropy(logits, labels) + term, entropy(logits + bias, labels)))
        True
    """
    adjustment = adjustment.to(log_probabilities.dtype)
    of_targets = targets.to(adjustment.dtype) @ adjustment if targets.is_floating_point() else adjustment[targets]
    return (log_probabilities + adjustment).logsumexp(1) - of_targets
