"""Intervals of paired differences, against the likelihood maximized numerically, and their coverage."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from hybridcls.functional.metrics.paired_difference import images_to_show, paired_difference_interval


def score(lost, won, count, delta):
    """The score statistic, its variance from the likelihood that is largest among shares that differ by delta."""

    def unlikely(q):  # the share that is won; q + delta is lost, the rest stays
        shares = np.array([q + delta, q, 1 - 2 * q - delta])
        counts = np.array([lost, won, count - lost - won])
        return -np.sum(counts[counts > 0] * np.log(np.maximum(shares[counts > 0], 1e-300)))

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(unlikely, bounds=(low, high), method='bounded', options=dict(xatol=1e-12)).x
    return (lost - won - count * delta) / np.sqrt(count * (2 * q + delta - delta**2))


@pytest.mark.parametrize(('lost', 'won', 'count'), [(12, 2, 50), (3, 9, 200), (1, 0, 30), (40, 41, 500)])
def test_the_ends_are_where_the_score_test_rejects(lost, won, count):
    low, high = paired_difference_interval(lost, won, count, 0.9)
    z = norm.ppf(0.95)
    assert score(lost, won, count, high) == pytest.approx(-z, abs=2e-4)
    assert score(lost, won, count, low) == pytest.approx(z, abs=2e-4)


def test_without_a_change_the_end_is_known_in_closed_form():
    z = norm.ppf(0.975)
    assert paired_difference_interval(0, 0, 100).high == pytest.approx(z**2 / (100 + z**2), rel=1e-6)
    needed = images_to_show(0.01)
    assert paired_difference_interval(0, 0, needed).high <= 0.01 < paired_difference_interval(0, 0, needed - 1).high


def test_all_lost_is_a_difference_of_one():
    assert paired_difference_interval(7, 0, 7).high == 1


def test_it_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.multinomial(300, [0.03, 0.01, 0.96], size=400).tolist()
    intervals = [paired_difference_interval(lost, won, 300) for lost, won, _ in draws]
    inside = [low <= 0.02 <= high for low, high in intervals]
    assert np.mean(inside) > 0.92


def test_more_changes_than_images_are_refused():
    with pytest.raises(ValueError, match='paired_difference_interval: expected won'):
        paired_difference_interval(6, 5, 10)
