"""Smooth calibration error: no bins, and a bandwidth that follows from the data."""

import math

import torch
from torch import Tensor

__all__ = ['smooth_calibration_error']

_LEAST_BANDWIDTH = 1e-3
_TERMS = 2048  # of the cosine series: at the least bandwidth the next one has a factor of 1e-9
_STEPS = 40  # of the bisection


def smooth_calibration_error(confidence: Tensor, right: Tensor) -> Tensor:
    r"""Return smECE of `Blasiok and Nakkiran <https://arxiv.org/abs/2309.12236>`_ (definitions 5 and 6).

    .. math::
        \mathrm{smECE}_\sigma = \int_0^1 \Bigl| \frac1N \sum_i (y_i - f_i)\, K_\sigma(t, f_i) \Bigr| dt

    with a Gaussian kernel of standard deviation :math:`\sigma` that is reflected at 0 and 1. It falls with the
    bandwidth; smECE is its value where it equals the bandwidth, :math:`\mathrm{smECE}_\sigma = \sigma`. Below a
    bandwidth of 0.001 the value at that one is taken, as in the authors' package relplot (apple/ml-calibration), which
    halves the bandwidth ten times and so ends within 0.001 of it. (Its sums on a grid differ from the integral: by up
    to 0.04 where many probabilities are exactly 0 or 1, whose mirror images it leaves out.)

    The reflected kernel is the heat kernel of [0, 1]: in a cosine series each term of the residuals is multiplied by
    :math:`e^{-\sigma^2 \pi^2 k^2 / 2}`. The series of the data is computed once, exactly, for all bandwidths.

    Args:
        confidence (Tensor): f, probabilities in [0, 1], (N,), N >= 1.
        right (Tensor): y, whether what they claim is true, (N,).

    Returns:
        Tensor: A scalar in [0, 1], float64.

    Example:
        >>> round(smooth_calibration_error(torch.full((10, ), 0.8), torch.ones(10)).item(), 3)  # wide kernel: 0.2
        0.2
    """
    confidence, right = confidence.double(), right.double()
    coefficients = _cosine_coefficients(confidence, right - confidence)
    order = torch.arange(_TERMS, dtype=torch.float64)
    middles = (torch.arange(_TERMS, dtype=torch.float64) + 0.5) / _TERMS
    waves = torch.cos(math.pi * middles.unsqueeze(1) * order)
    waves[:, 1:] *= 2

    def at(bandwidth: float) -> float:
        damped = coefficients * torch.exp(-0.5 * (bandwidth * math.pi * order).square())
        return float((waves @ damped).abs().mean())

    low, high = _LEAST_BANDWIDTH, 1.0
    if at(low) <= low:
        return torch.tensor(at(low), dtype=torch.float64)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > middle else (low, middle)
    return torch.tensor(at(high), dtype=torch.float64)


def _cosine_coefficients(places: Tensor, values: Tensor) -> Tensor:
    """Return the means of value * cos(k pi place) for k = 0, 1, ..., each cosine from the two before it."""
    twice = 2 * torch.cos(math.pi * places)
    before, now = twice / 2, torch.ones_like(places)
    found = []
    for _ in range(_TERMS):
        found.append(now @ values)
        before, now = now, twice * now - before
    return torch.stack(found) / len(places)
