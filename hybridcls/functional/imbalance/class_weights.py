"""Class weights, larger for classes with fewer images."""

import math

import torch
from torch import Tensor

from hybridcls.checks import check_number

from ..full_precision import to_float64

__all__ = ['balanced_class_weights', 'check_counts', 'effective_class_weights']


def balanced_class_weights(counts: Tensor) -> Tensor:
    r"""Return :math:`w_c = n / (C n_c)`, as scikit-learn's ``class_weight='balanced'``: equal total weight per class.

    n is the number of labels, and C that of the classes with images, so that the mean weight of an image is 1, and the
    weights are those that scikit-learn finds from the labels. A class without images has weight 0: no image asks for
    it, and nothing (label smoothing) may pull towards it.

    Args:
        counts (Tensor): Images of each class, >= 0, shape (C,).

    Returns:
        Tensor: float64, shape (C,).

    Raises:
        ValueError: If ``counts`` is no vector of counts.

    Example:
        >>> balanced_class_weights(torch.tensor([6, 2, 0]))
        tensor([0.6667, 2.0000, 0.0000], dtype=torch.float64)
    """
    check_counts('balanced_class_weights', counts)
    counts = to_float64(counts)
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts)
    return torch.where(present, weights, 0.0)


def effective_class_weights(counts: Tensor, beta: float = 0.9999) -> Tensor:
    r"""Return weights in proportion to :math:`1 / E_{n_c}`, :math:`E_n = (1 - \beta^n) / (1 - \beta)`, of mean 1.

    The effective number of samples of `Cui et al. <https://arxiv.org/abs/1901.05555>`_, eq. 2: the more images a class
    has, the less is new in one more. As in the authors' code the weights add up to the number of classes (here those
    with images): their mean over *classes* is 1, and that over images is below it. Beta 0 gives equal weights, and
    beta -> 1 inverse frequencies. A class without images has weight 0.

    Args:
        counts (Tensor): Images of each class, >= 0, shape (C,).
        beta (float): In [0, 1). Defaults to 0.9999; the paper also tries 0.9, 0.99 and 0.999.

    Returns:
        Tensor: float64, shape (C,).

    Raises:
        ValueError: If ``beta`` is out of range, or ``counts`` is no vector of counts.

    Example:
        >>> effective_class_weights(torch.tensor([1, 3]), beta=0.5)  # E = 1 and 1.75
        tensor([1.2727, 0.7273], dtype=torch.float64)
    """
    check_number('effective_class_weights', 'beta', beta, 0, 1, high_open=True)
    check_counts('effective_class_weights', counts)
    counts = to_float64(counts)
    present = counts > 0
    # 1 - beta^n without the cancellation that it has near beta = 1.
    effective = -torch.expm1(counts * math.log(beta)) if beta > 0 else present.double()
    weights = torch.where(present, 1 / effective, 0.0)
    return weights * (present.sum() / weights.sum())


def check_counts(caller: str, counts: Tensor) -> None:
    """Raise a ValueError unless ``counts`` is a vector of numbers >= 0, not all 0."""
    if counts.dim() != 1 or bool((counts < 0).any()) or not bool((counts > 0).any()):
        raise ValueError(f'{caller}: expected counts >= 0 of the classes, not all 0, shape (C,), got {counts}.')
