"""Find the confidence above which a classifier answers, with a bound on the error of its answers."""

import math
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_number

__all__ = ['RiskThreshold', 'images_without_error', 'risk_threshold']

_MOST_THRESHOLDS = 100
_MOST_IMAGES = 10_000_000


class RiskThreshold(NamedTuple):
    """A threshold, or, if none was found, how far the images are from one.

    Args:
        threshold (float, optional): An image is answered if its confidence is >= this; None: none was found.
        answered (int): Of the images that it was tested with, those that are answered.
        errors (int): Of these, the wrong ones.
        images (int): That it was tested with.
        missing (int, optional): Without a threshold: about how many more images, like these, would give one. None: no
            number would, since the error is too high at every confidence.
    """

    threshold: Optional[float]
    answered: int
    errors: int
    images: int
    missing: Optional[int] = None


def images_without_error(risk: float, confidence: float) -> int:
    """Return the minimum number of answers, none of them wrong, that proves a risk.

    Example:
        >>> images_without_error(0.05, 0.95)
        59
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - risk) - 1e-9)


def risk_threshold(
    confidences: Tensor, wrong: Tensor, is_test: Tensor, risk: float, confidence: float = 0.95
) -> RiskThreshold:
    r"""Find the lowest confidence threshold at which the error among answers is at most ``risk``, with a guarantee.

    With probability ``confidence`` over the images given, the error among images that are answered later is at most
    ``risk``, if they are drawn as these were. That is selective risk, controlled by `Learn then Test
    <https://arxiv.org/abs/2110.01052>`_ with fixed-sequence testing: of n answered images with k errors,
    :math:`P(Bin(n, risk) \le k)` is the p-value of a risk that is too high, and thresholds are tested one after the
    other, from the one that looks safest down to lower ones, until a p-value exceeds ``1 - confidence``. Which
    thresholds there are, and which looks safest, is learned from images that test nothing, so that nothing needs to be
    assumed of how the error depends on the confidence.

    Args:
        confidences (Tensor): Shape (N,), higher is surer.
        wrong (Tensor): bool, shape (N,): whether the prediction is wrong.
        is_test (Tensor): bool, shape (N,): whether the image tests; the others are those to learn from. A random share:
            with a quarter to learn from, more is answered than with a half.
        risk (float): In (0, 1).
        confidence (float): In (0, 1). Defaults to 0.95.

    Raises:
        ValueError: If a number is out of range, or a confidence is NaN.

    Example:
        >>> confidences = torch.linspace(0, 1, 400)
        >>> is_test = torch.arange(400) % 2 == 1
        >>> risk_threshold(confidences, confidences < 0.5, is_test, risk=0.05)._replace(threshold=None)
        RiskThreshold(threshold=None, answered=99, errors=0, images=200, missing=None)
        >>> risk_threshold(confidences[-60:], confidences[-60:] < 0.5, is_test[-60:], risk=0.05).missing
        58
    """
    from scipy.stats import binom

    check_number('risk_threshold', 'risk', risk, 0, 1, low_open=True, high_open=True)
    check_number('risk_threshold', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    confidences = confidences.double()
    if bool(confidences.isnan().any()):
        raise ValueError('risk_threshold: expected confidences, got NaN.')
    learn, test, both = (_Counts(confidences[rows], wrong[rows]) for rows in (~is_test, is_test, slice(None)))
    found = RiskThreshold(None, 0, 0, int(is_test.sum()))
    share = max(found.images, 1) / max(len(wrong), 1)
    candidates = learn.thresholds()
    if len(candidates) == 0 or (1 - risk) ** found.images > 0.5:  # they say nothing, however many are right
        return found._replace(missing=math.ceil(images_without_error(risk, confidence) / share) - len(wrong))
    answered, errors = learn.at(candidates)
    candidates = candidates[int(binom.logcdf(errors.numpy(), answered.numpy(), risk).argmin()) :]
    answered, errors = test.at(candidates)
    passed = binom.cdf(errors.numpy(), answered.numpy(), risk) <= 1 - confidence
    count = len(passed) if passed.all() else int(passed.argmin())
    if count:
        last = count - 1
        return found._replace(threshold=float(candidates[last]), answered=int(answered[last]), errors=int(errors[last]))
    # What the images that test say of the first threshold; where it is too bad, what all say of it, then of any other.
    for counts, at in ((test, candidates[:1]), (both, candidates[:1]), (both, both.thresholds())):
        total = len(wrong) if counts is both else found.images
        needed = [
            answers * total / some / share
            for some, bad in zip(*(values.tolist() for values in counts.at(at)), strict=True)
            if binom.cdf(bad, some, risk) <= 0.5  # they speak for the risk rather than against it
            and (answers := _answers_needed(bad / some, risk, confidence)) is not None
        ]
        if needed:
            return found._replace(missing=max(1, math.ceil(min(needed)) - len(wrong)))
    return found


class _Counts:
    """Numbers of answered images, and of wrong answers, at any threshold."""

    def __init__(self, confidences: Tensor, wrong: Tensor) -> None:
        self._rising, order = confidences.sort()
        self._wrong_above = wrong[order].long().flip(0).cumsum(0).flip(0)

    def thresholds(self) -> Tensor:
        """Return at most a hundred of the confidences, descending, evenly spaced in coverage."""
        count = len(self._rising)
        ranks = torch.linspace(1, count, min(count, _MOST_THRESHOLDS), dtype=torch.float64).round().long()
        return self._rising[count - ranks].unique().flip(0)

    def at(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of answered images and of errors."""
        first = torch.searchsorted(self._rising, thresholds)
        padded = torch.cat([self._wrong_above, self._wrong_above.new_zeros(1)])
        return len(self._rising) - first, padded[first]


def _answers_needed(error: float, risk: float, confidence: float) -> Optional[int]:
    """Return the minimum number of answers, with this share of errors, that proves the risk."""
    from scipy.stats import binom

    low, high = 0, images_without_error(risk, confidence)
    if error >= risk:
        return None
    while binom.cdf(round(error * high), high, risk) > 1 - confidence:
        low, high = high, 2 * high
        if high > _MOST_IMAGES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = binom.cdf(round(error * middle), middle, risk) <= 1 - confidence
        low, high = (low, middle) if enough else (middle, high)
    return high
