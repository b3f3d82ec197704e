"""Intervals of the difference of two shares that were counted on the same images."""

import math

from hybridcls.checks import check_number

from .intervals import Interval

__all__ = ['images_to_show', 'paired_difference_interval']

_STEP = 1e-10


def paired_difference_interval(lost: int, won: int, count: int, confidence: float = 0.95) -> Interval:
    r"""Return the score interval of a difference of paired shares (`Tango, 1998
    <https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C891::AID-SIM780%3E3.0.CO;2-B>`_).

    Of N images, b were right before and are wrong after, c the other way round. The interval has all differences
    :math:`\Delta` of the two shares that the score test does not reject:

    .. math::
        \left| \frac{b - c - N \Delta}{\sqrt{N (2 \tilde q + \Delta (1 - \Delta))}} \right| \le z

    with :math:`\tilde q` the maximum likelihood estimate of the share that is won, given :math:`\Delta`. It has its
    confidence with few and with no changes too, where a bootstrap of equal images would claim to be certain.

    Args:
        lost (int): b, >= 0.
        won (int): c, >= 0.
        count (int): N, >= 1 and >= b + c.
        confidence (float): In (0, 1), of both ends together. Defaults to 0.95.

    Returns:
        Interval: Of b / N - c / N, in [-1, 1].

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> low, high = paired_difference_interval(0, 0, 1000)
        >>> round(low, 4), round(high, 4)  # no change in 1,000 images: 0.4 % may still be lost
        (-0.0038, 0.0038)
    """
    check_number('paired_difference_interval', 'count', count, 1, integer=True)
    check_number('paired_difference_interval', 'lost', lost, 0, count, integer=True)
    check_number('paired_difference_interval', 'won', won, 0, count - lost, integer=True)
    check_number('paired_difference_interval', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    return Interval(-_upper(won, lost, count, confidence), _upper(lost, won, count, confidence))


def images_to_show(most: float, confidence: float = 0.95) -> int:
    """Return how many images can show that at most a given share is lost, if none of them changes.

    Example:
        >>> images_to_show(0.005)
        765
    """
    check_number('images_to_show', 'most', most, 0, 1, low_open=True)
    z = _quantile(confidence)
    return math.ceil(z * z * (1 - most) / most)


def _upper(lost: int, won: int, count: int, confidence: float) -> float:
    """Return the largest difference that is not rejected: the score falls as the difference rises."""
    from scipy.optimize import brentq

    z = _quantile(confidence)

    def beyond(delta: float) -> float:
        a, b = 2 * count, -lost - won + (2 * count - lost + won) * delta
        root = max(0.0, b * b + 4 * a * won * delta * (1 - delta))
        q = max(0.0, (math.sqrt(root) - b) / (2 * a))
        variance = max(0.0, count * (2 * q + delta * (1 - delta)))
        return lost - won - count * delta + z * math.sqrt(variance)

    if beyond(1.0) >= 0:
        return 1.0
    above = (lost - won) / count + _STEP  # at the difference itself the variance may be 0
    return float(brentq(beyond, above, 1.0, xtol=_STEP / 10))


def _quantile(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + confidence) / 2))
