"""Effects of paired trainings: mean difference, interval, and the smallest detectable effect."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybridcls.checks import check_number

__all__ = ['PairedEffect', 'holm_adjusted', 'paired_effect', 'smallest_effect']


class PairedEffect(NamedTuple):
    """The mean of paired differences, with its uncertainty.

    Args:
        mean (float): Of the differences.
        low (float), high (float): The ends of its t-interval; NaN of fewer than two pairs, and of equal differences
            that are not 0, whose spread is unknown.
        p_value (float): Two-sided, of no difference; NaN of fewer than two pairs.
        sd (float): The standard deviation of the differences; NaN of fewer than two pairs.
        pairs (int): How many there are.
    """

    mean: float
    low: float
    high: float
    p_value: float
    sd: float
    pairs: int


def paired_effect(differences: Sequence[float], confidence: float = 0.95, rounding: float = 0.0) -> PairedEffect:
    """Return the paired t-interval and p-value of differences, those of ``scipy.stats.ttest_1samp``.

    Where all differences are the same number and not 0, which happens to accuracies of few images, a t-test would be
    sure of anything: the p-value is then that of the sign test, 2 / 2 ** n.

    Args:
        differences (Sequence[float]): One a pair, finite.
        confidence (float): Of the interval, in (0, 1). Defaults to 0.95.
        rounding (float): Differences that differ by no more than this are the same number: 90.1 - 90 is not 80.1 - 80
            in float32. Defaults to 0.0.

    Raises:
        ValueError: If there are no differences, or one is not finite.

    Example:
        >>> effect = paired_effect([1.0, 2.0, 3.0])
        >>> round(effect.mean, 3), round(effect.low, 3), round(effect.high, 3), round(effect.p_value, 3)
        (2.0, -0.484, 4.484, 0.074)
    """
    from scipy.stats import ttest_1samp

    check_number('paired_effect', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f'paired_effect: expected finite differences, at least one, got {list(differences)}.')
    mean = float(values.mean())
    if len(values) < 2:
        return PairedEffect(mean, math.nan, math.nan, math.nan, math.nan, len(values))
    if np.ptp(values) <= rounding:
        if abs(mean) <= rounding:
            return PairedEffect(0.0, 0.0, 0.0, 1.0, 0.0, len(values))
        return PairedEffect(mean, math.nan, math.nan, 2.0 ** (1 - len(values)), 0.0, len(values))
    test = ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(confidence)
    return PairedEffect(mean, float(low), float(high), float(test.pvalue), float(values.std(ddof=1)), len(values))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: those below a level are jointly significant at that level.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. A p-value that is NaN stays, and counts as
    one of the tests.

    Args:
        p_values (Sequence[float]): Of all tests of the family.

    Example:
        >>> holm_adjusted([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda k: (math.isnan(p_values[k]), p_values[k]))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, k in enumerate(order):
        if not math.isnan(p_values[k]):
            largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
            adjusted[k] = largest
    return adjusted


def smallest_effect(sd: float, pairs: int, level: float, power: float = 0.8) -> float:
    """Return the smallest true mean difference that a paired t-test detects with probability ``power``.

    From the noncentral t distribution, taking ``sd`` as the true standard deviation of the differences.

    Args:
        sd (float): Standard deviation of the differences, >= 0.
        pairs (int): Number of pairs.
        level (float): Two-sided, in (0, 1): of one test of m that are corrected together, at worst the m-th part.
        power (float): In (level, 1). Defaults to 0.8.

    Returns:
        float: >= 0; NaN of fewer than two pairs.

    Example:
        >>> round(smallest_effect(sd=1.0, pairs=5, level=0.05), 3)
        1.682
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    if pairs < 2 or math.isnan(sd):
        return math.nan
    free = pairs - 1
    critical = float(t.isf(level / 2, free))

    def missing(shift: float) -> float:
        return float(nct.sf(critical, free, shift)) - power

    upper = 2.0
    while missing(upper) < 0:
        upper *= 2
    return float(brentq(missing, 0.0, upper)) * sd / math.sqrt(pairs)
