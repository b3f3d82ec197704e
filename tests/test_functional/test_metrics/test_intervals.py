"""Confidence intervals: against scipy's, their coverage, and what too few data give."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hybridcls.functional.metrics.intervals import (
    bootstrap_interval,
    fewest_units,
    mean_interval,
    share_interval,
    share_interval_by_group,
    weighted_mean,
)


@pytest.mark.parametrize(('successes', 'count'), [(0, 10), (10, 10), (3, 10), (1, 1), (499, 500), (7, 10000)])
@pytest.mark.parametrize('confidence', [0.9, 0.99])
def test_share_interval_has_the_tails_of_the_binomial(successes, count, confidence):
    low, high = share_interval(successes, count, confidence)
    tail = (1 - confidence) / 2
    if successes > 0:  # this many or more are just so unlikely at the lower end
        assert stats.binom.sf(successes - 1, count, low) == pytest.approx(tail, rel=1e-6)
    else:
        assert low == 0
    if successes < count:
        assert stats.binom.cdf(successes, count, high) == pytest.approx(tail, rel=1e-6)
    else:
        assert high == 1


def test_nothing_is_known_of_no_trial_and_wrong_counts_are_errors():
    assert share_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match=r'^share_interval: expected successes in \[0, 3\], got 4'):
        share_interval(4, 3)
    with pytest.raises(ValueError, match=r'^share_interval: expected confidence in \(0, 1\), got 1'):
        share_interval(1, 3, 1)


def test_bootstrap_of_a_mean_equals_scipys():
    values = np.random.default_rng(0).exponential(size=200)
    expected = stats.bootstrap([values], np.mean, n_resamples=20000, method='percentile', rng=1).confidence_interval
    tensor = torch.from_numpy(values)
    ends = bootstrap_interval(lambda weights: weighted_mean(weights, tensor), 200, resamples=20000)
    assert ends.low.item() == pytest.approx(expected.low, abs=0.006)
    assert ends.high.item() == pytest.approx(expected.high, abs=0.006)


def test_bootstrap_is_seeded_and_takes_several_statistics():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))

    def of_seed(seed):
        return bootstrap_interval(lambda weights: weighted_mean(weights, values), 50, seed=seed)

    assert torch.equal(of_seed(1).low, of_seed(1).low)
    assert not torch.equal(of_seed(1).low, of_seed(2).low)
    one = bootstrap_interval(lambda weights: weighted_mean(weights, values[:, 1]), 50, seed=1)
    assert one.high.item() == pytest.approx(of_seed(1).high[1].item(), abs=1e-12)


def test_groups_are_drawn_together():
    """Ten groups of 20 equal images know no more than ten images."""
    of_groups = torch.arange(10.0)
    groups = [f'patient {number}' for number in range(10)] * 20
    low, high = mean_interval(of_groups.repeat(20), groups)
    alone = mean_interval(of_groups)
    assert (low, high) == pytest.approx(alone, abs=1e-12)
    as_images = mean_interval(of_groups.repeat(20))
    assert as_images.high - as_images.low < 0.4 * (high - low)
    with pytest.raises(ValueError, match=r'expected the group of each of 10 images, got 9'):
        mean_interval(of_groups, groups[:9])


def test_intervals_cover_as_often_as_they_say():
    """Of 400 samples of 30 groups with 5 correlated images each."""
    generator = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(400):
        rates = torch.rand(30, generator=generator, dtype=torch.float64)
        hits = torch.rand(30, 5, generator=generator) < rates.unsqueeze(1)
        low, high = share_interval_by_group(hits.flatten(), [number for number in range(30) for _ in range(5)])
        covered.append(low <= 0.5 <= high)
    assert 0.9 < np.mean(covered) <= 0.99


def test_insufficient_data():
    assert fewest_units(0.95) == 6
    assert all(math.isnan(end) for end in mean_interval(torch.randn(5)))
    assert all(math.isfinite(end) for end in mean_interval(torch.randn(6)))
    assert all(math.isnan(end) for end in mean_interval(torch.randn(100), ['a', 'b'] * 50))
    mixed = torch.arange(100) % 3 == 0
    assert all(math.isnan(end) for end in share_interval_by_group(mixed, ['a', 'b'] * 50))
    assert share_interval_by_group(torch.ones(100, dtype=torch.bool), ['a', 'b'] * 50) == share_interval(2, 2)
    assert share_interval_by_group(torch.zeros(100, dtype=torch.bool), ['a', 'b'] * 50) == share_interval(0, 2)
    assert share_interval_by_group(torch.zeros(0, dtype=torch.bool), []) == (0, 1)


@pytest.mark.parametrize('value', [1.0, 0.0, 0.3])
def test_resamples_that_agree_say_nothing(value):
    values = torch.full((20,), value)
    assert all(math.isnan(end) for end in mean_interval(values))
    values[0] = 0.5
    assert all(math.isfinite(end) for end in mean_interval(values))


def test_a_statistic_that_most_resamples_lack_has_no_interval():
    rare = torch.zeros(50)
    rare[0] = 1

    def share_among_rare(weights):
        return (weights * rare).sum(1) / (weights * rare).sum(1)

    assert bootstrap_interval(share_among_rare, 50).low.isnan()  # a third of the resamples have none
