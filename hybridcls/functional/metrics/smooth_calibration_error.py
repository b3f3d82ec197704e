"""Smooth calibration error: without bins, and with a bandwidth derived from the data."""

import math
from typing import Optional

import torch
from torch import Tensor

__all__ = ['smooth_calibration_error']

_LEAST_BANDWIDTH = 1e-3
_TERMS = 2048  # of the cosine series: at the least bandwidth the next one has a factor of 1e-9
_TERMS_AT_ONCE = 64
_STEPS, _STEPS_OF_RESAMPLES = 40, 20  # of the bisection; an interval needs no more than 1e-6


def smooth_calibration_error(confidence: Tensor, right: Tensor, weights: Optional[Tensor] = None) -> Tensor:
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
        weights (Tensor, optional): How often each image counts in each of R resamples, float64 (R, N). Defaults to
            None: once.

    Returns:
        Tensor: In [0, 1], float64: a scalar, or (R,).

    Example:
        >>> round(smooth_calibration_error(torch.full((10, ), 0.8), torch.ones(10)).item(), 3)  # wide kernel: 0.2
        0.2
    """
    from scipy.fft import dct  # here: a start of hybridcls does without scipy

    confidence, right = confidence.double(), right.double()
    each = torch.ones(1, len(confidence), dtype=torch.float64) if weights is None else weights.double()
    coefficients = _cosine_coefficients(confidence, right - confidence, each)
    order = torch.arange(_TERMS, dtype=torch.float64)

    def at(bandwidths: Tensor) -> Tensor:
        damped = coefficients * torch.exp(-0.5 * (bandwidths.unsqueeze(1) * math.pi * order).square())
        # DCT-III: the series at the middles of as many intervals as it has terms.
        return torch.from_numpy(dct(damped.numpy(), type=3)).abs().mean(1)

    low = torch.full((len(each),), _LEAST_BANDWIDTH, dtype=torch.float64)
    high = torch.ones_like(low)
    least = at(low)
    for _ in range(_STEPS if weights is None else _STEPS_OF_RESAMPLES):
        middle = (low + high) / 2
        above = at(middle) > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    found = torch.where(least <= _LEAST_BANDWIDTH, least, at(high))
    return found if weights is not None else found[0]


def _cosine_coefficients(places: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Return the means of value * cos(k pi place) for k = 0, 1, ..., (R, terms), each cosine from the two before it."""
    twice = 2 * torch.cos(math.pi * places)
    before, now = twice / 2, torch.ones_like(places)
    found = []
    for _ in range(_TERMS // _TERMS_AT_ONCE):
        block = []
        for _ in range(_TERMS_AT_ONCE):
            block.append(now * values)
            before, now = now, twice * now - before
        found.append(weights @ torch.stack(block, 1))
    return torch.cat(found, 1) / weights.sum(1, keepdim=True)
