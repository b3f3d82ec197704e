"""Isotonic calibration: a nondecreasing step function for the probability of each class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ['Steps', 'apply_isotonic', 'fit_isotonic']

Steps = tuple[list[float], list[float]]
"""The corners of a piecewise linear function: where, rising, and its values."""


def fit_isotonic(scores: Tensor, labels: Tensor) -> list[Steps]:
    """Fit for each class the nondecreasing function of its score that best predicts the class (isotonic regression).

    `Zadrozny and Elkan <https://doi.org/10.1145/775047.775151>`_: one class against the rest, the squared error
    minimized by scikit-learn's ``IsotonicRegression``. It assumes nothing of the scores but their order, and needs the
    most images.

    Args:
        scores (Tensor): Probabilities, shape (N, C).
        labels (Tensor): int64, shape (N,), each class at least once.

    Returns:
        list[Steps]: C functions, for :func:`apply_isotonic`.

    Example:
        >>> fit_isotonic(torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5]]), torch.tensor([0, 1, 0]))[0]
        ([0.5, 0.75, 1.0], [0.5, 0.5, 1.0])
    """
    from sklearn.isotonic import IsotonicRegression

    values = scores.double().cpu().numpy()
    truth = labels.cpu().numpy()
    functions = []
    for number in range(values.shape[1]):
        fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds='clip').fit(values[:, number], truth == number)
        functions.append((fit.X_thresholds_.tolist(), fit.y_thresholds_.tolist()))
    return functions


def apply_isotonic(scores: Tensor, functions: Sequence[Steps], own_share: float) -> Tensor:
    """Return calibrated probabilities: the values of the functions, normalized over the classes.

    A share of the model's own probability is mixed in: what N images have never shown has no probability of 0
    (1 / (N + 2) by the rule of succession), and on a step, where functions are constant, the model's order decides. A
    row of zeros stays as the model says.

    Args:
        scores (Tensor): Shape (B, C).
        functions (Sequence[Steps]): Of :func:`fit_isotonic`.
        own_share (float): In [0, 1].

    Returns:
        Tensor: float64, shape (B, C), on the CPU.

    Example:
        >>> apply_isotonic(torch.tensor([[0.75, 0.25]]), [([0.5, 1.0], [0.0, 1.0]), ([0.0, 0.5], [0.0, 1.0])], 0)
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    own = scores.double().cpu()
    columns = [np.interp(own[:, number].numpy(), *function) for number, function in enumerate(functions)]
    values = torch.from_numpy(np.stack(columns, 1))
    total = values.sum(1, keepdim=True)
    values = torch.where(total > 0, values / total, own)
    return torch.lerp(values, own, own_share)
