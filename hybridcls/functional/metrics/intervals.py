"""Confidence intervals of results on a sample of images: exact ones for shares, and bootstrap ones."""

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_number

__all__ = [
    'MOST_WITHOUT_VALUE', 'Interval', 'bootstrap_interval', 'fewest_units', 'mean_interval', 'share_interval',
    'share_interval_by_group', 'weighted_mean',
]  # fmt: skip

Statistic = Callable[[Tensor], Tensor]

_BLOCK_NUMBERS = 2**22  # weights that are held at once
MOST_WITHOUT_VALUE = 0.05
"""An interval needs a value of all resamples but this share."""
_ROUNDING = 1e-12


class Interval(NamedTuple):
    """The two ends of a confidence interval; NaN where there are too few data for one.

    Args:
        low (float): The lower end.
        high (float): The upper end.
    """

    low: float
    high: float


class Intervals(NamedTuple):
    """The ends of the confidence intervals of one or several statistics; NaN where there are too few data.

    Args:
        low (Tensor): The lower ends, float64.
        high (Tensor): The upper ends, float64.
    """

    low: Tensor
    high: Tensor


@functools.lru_cache(maxsize=2**16)
def share_interval(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Return the Clopper-Pearson interval of a share, from scipy's ``binomtest(...).proportion_ci``.

    It is exact: at any true share, at least ``confidence`` of such intervals have it. The trials must be independent:
    where images come in groups (of one patient, of one burst), use :func:`share_interval_by_group`.

    Args:
        successes (int): How many of the trials succeeded, from 0 to ``count``.
        count (int): The number of trials, >= 0; of 0 trials nothing is known: from 0 to 1.
        confidence (float): In (0, 1). Defaults to 0.95.

    Returns:
        Interval: In [0, 1].

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> low, high = share_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.555, 0.997)
        >>> share_interval(0, 0)
        Interval(low=0.0, high=1.0)
    """
    from scipy.stats import binomtest

    check_number('share_interval', 'count', count, 0, integer=True)
    check_number('share_interval', 'successes', successes, 0, count, integer=True)
    check_number('share_interval', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    if not count:
        return Interval(0.0, 1.0)
    found = binomtest(successes, count).proportion_ci(confidence, method='exact')
    return Interval(float(found.low), float(found.high))


def fewest_units(confidence: float = 0.95) -> int:
    """Return how many independent images (or groups) a bootstrap interval needs.

    The range of all n values has their median with probability 1 - 2^(1 - n); with fewer than these, not even that
    range has the confidence that the interval would claim.

    Example:
        >>> fewest_units(0.95), fewest_units(0.99)
        (6, 8)
    """
    check_number('fewest_units', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    return math.ceil(1 - math.log2(1 - confidence) - 1e-9)


def bootstrap_interval(
    statistic: Statistic,
    count: int,
    groups: Optional[Sequence[Hashable]] = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Intervals:
    """Return the percentile bootstrap interval of a statistic, over images, or over groups of images.

    A resample draws as many images (groups) as there are, with replacement. It is described by how often each image was
    drawn: ``statistic`` gets these weights for many resamples at once, and uses them as if each image were there so
    many times. Of groups all images are drawn together: what varies between patients is then in the interval.

    Args:
        statistic (Callable): Takes weights, float64 (R, N), and returns the statistic of each resample, (R, ...); NaN
            where a resample has none.
        count (int): N, the number of images.
        groups (Sequence, optional): The group of each image. Defaults to None: each is its own.
        confidence (float): In (0, 1). Defaults to 0.95.
        resamples (int): How many. Defaults to 1000.
        seed (int): Of the draws: the same seed and sizes give the same interval. Defaults to 0.

    Returns:
        Intervals: Of each statistic; NaN (insufficient data) with fewer than :func:`fewest_units` images or groups,
        where more than 5 % of the resamples have no value, or where they agree: of images that are all right each
        resample is, which does not make it certain.

    Raises:
        ValueError: If a number is out of range, or there is not one group for each image.

    Example:
        >>> values = torch.arange(100.)
        >>> low, high = bootstrap_interval(lambda weights: weighted_mean(weights, values), 100)
        >>> bool(43 < low < 45 and 54 < high < 56)  # 49.5 +- 1.96 * 28.9 / 10
        True
    """
    check_number('bootstrap_interval', 'count', count, 0, integer=True)
    check_number('bootstrap_interval', 'resamples', resamples, 1, integer=True)
    check_number('bootstrap_interval', 'confidence', confidence, 0, 1, low_open=True, high_open=True)
    unit_of, units = _units(count, groups)
    if units < fewest_units(confidence):
        shape = statistic(torch.ones(1, count, dtype=torch.float64)).shape[1:]
        return Intervals(*torch.full((2, *shape), torch.nan, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _BLOCK_NUMBERS // max(count, units))
    found = []
    for begin in range(0, resamples, rows):
        size = min(rows, resamples - begin)
        drawn = torch.randint(units, (size, units), generator=generator)
        times = torch.zeros(size, units, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(size, units)
        )
        found.append(statistic(times if groups is None else times[:, unit_of]).double())
    values = torch.cat(found)
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = values.nanquantile(tails, dim=0)
    too_few = values.isnan().double().mean(0) > MOST_WITHOUT_VALUE
    too_few |= high - low <= _ROUNDING * high.abs()
    return Intervals(low.masked_fill(too_few, torch.nan), high.masked_fill(too_few, torch.nan))


def weighted_mean(weights: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values in each resample: the statistic of :func:`mean_interval`.

    Args:
        weights (Tensor): How often each image was drawn, float64 (R, N).
        values (Tensor): Shape (N,) or (N, K).

    Returns:
        Tensor: float64 (R,) or (R, K); NaN where nothing was drawn.
    """
    return (weights @ values.double()) / weights.sum(1).view(-1, *[1] * (values.dim() - 1))


def mean_interval(
    values: Tensor, groups: Optional[Sequence[Hashable]] = None, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the bootstrap interval of the mean of one number an image, shape (N,).

    Example:
        >>> mean_interval(torch.ones(3))  # insufficient data
        Interval(low=nan, high=nan)
    """
    ends = bootstrap_interval(
        lambda weights: weighted_mean(weights, values), len(values), groups, confidence, 1000, seed
    )
    return Interval(ends.low.item(), ends.high.item())


def share_interval_by_group(
    hits: Tensor, groups: Optional[Sequence[Hashable]] = None, confidence: float = 0.95
) -> Interval:
    """Return the interval of a share of images that are grouped.

    Without groups it is :func:`share_interval`; with them a bootstrap over the groups. Where all images agree, each
    resample does too and the bootstrap would claim to be certain: then it is the exact interval of as many trials as
    there are groups.

    Args:
        hits (Tensor): Whether each image counts, bool (N,).
        groups (Sequence, optional): The group of each image. Defaults to None: each is its own.
        confidence (float): In (0, 1). Defaults to 0.95.

    Returns:
        Interval: In [0, 1]; NaN with fewer than :func:`fewest_units` groups that do not agree.

    Example:
        >>> low, high = share_interval_by_group(torch.ones(100, dtype=torch.bool), ['a', 'b'] * 50)
        >>> round(low, 2), high  # two trials, not a hundred
        (0.16, 1.0)
    """
    if groups is None:
        return share_interval(int(hits.sum()), len(hits), confidence)
    units = _units(len(hits), groups)[1]
    if not units or bool(hits.all()) or not bool(hits.any()):
        return share_interval(units if units and bool(hits.all()) else 0, units, confidence)
    return mean_interval(hits, groups, confidence)


def _units(count: int, groups: Optional[Sequence[Hashable]]) -> tuple[Tensor, int]:
    """Number the groups; return the number of each image's group, and the number of groups."""
    if groups is None:
        return torch.arange(count), count
    if len(groups) != count:
        raise ValueError(f'bootstrap_interval: expected the group of each of {count} images, got {len(groups)}.')
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups], dtype=torch.int64), len(numbers)
