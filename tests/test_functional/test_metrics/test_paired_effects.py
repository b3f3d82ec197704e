"""What paired trainings show, beside scipy's paired test, Holm's rule by hand and simulated tests."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from hybridcls.functional.metrics import holm_adjusted, paired_effect, smallest_effect


@pytest.mark.parametrize('count', [2, 5, 30])
def test_it_is_the_paired_t_test(count):
    rng = np.random.default_rng(count)
    one, two = rng.normal(1, 2, count), rng.normal(0, 1, count)
    effect = paired_effect((one - two).tolist(), confidence=0.9)
    test = ttest_rel(one, two)
    assert effect.p_value == pytest.approx(test.pvalue, abs=1e-12)
    half = t.ppf(0.95, count - 1) * np.std(one - two, ddof=1) / math.sqrt(count)
    assert (effect.low, effect.high) == pytest.approx((np.mean(one - two) - half, np.mean(one - two) + half))
    assert (effect.pairs, effect.sd) == (count, pytest.approx(np.std(one - two, ddof=1)))


def test_equal_differences_are_not_sure_of_anything():
    assert paired_effect([0.0] * 5).p_value == 1
    assert paired_effect([0.5] * 5).p_value == 2 * 0.5**5
    few = paired_effect([-0.5] * 3)
    assert (few.mean, few.p_value, few.sd) == (-0.5, 2 * 0.5**3, 0)
    assert math.isnan(few.low)  # an interval of no width would say that more seeds change nothing
    assert math.isnan(few.high)
    assert paired_effect([0.0] * 3)[:3] == (0, 0, 0)


def test_rounding_is_no_spread():
    values = [0.5, 0.5 + 1e-6]
    assert paired_effect(values).p_value < 1e-5  # as scipy has it
    assert paired_effect(values, rounding=1e-5).p_value == 0.5  # of the sign test
    assert paired_effect([1e-6, -1e-6], rounding=1e-5)[:4] == (0, 0, 0, 1)


def test_one_pair_shows_its_difference_alone():
    effect = paired_effect([2.0])
    assert effect.mean == 2
    assert all(map(math.isnan, (effect.low, effect.high, effect.p_value, effect.sd)))


@pytest.mark.parametrize('wrong', [[], [1.0, math.nan], [math.inf]])
def test_only_finite_differences_count(wrong):
    with pytest.raises(ValueError, match='paired_effect: expected finite differences, at least one'):
        paired_effect(wrong)


def test_holms_rule():
    # By hand: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 -> not below the one before.
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.9, 0.8]) == [1.0, 1.0]
    assert holm_adjusted([]) == []
    unknown = holm_adjusted([math.nan, 0.01, 0.02])
    assert math.isnan(unknown[0])
    assert unknown[1:] == pytest.approx([0.03, 0.04])  # the unknown one counts as a test


@pytest.mark.parametrize(('pairs', 'level'), [(3, 0.05), (5, 0.05), (5, 0.005), (12, 0.01)])
def test_the_smallest_effect_is_found_as_often_as_it_says(pairs, level):
    sd = 1.7
    effect = smallest_effect(sd, pairs, level, power=0.8)
    draws = np.random.default_rng(0).normal(effect, sd, (40_000, pairs))
    statistic = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(pairs))
    found = float((statistic > t.isf(level / 2, pairs - 1)).mean())
    assert found == pytest.approx(0.8, abs=0.01)


def test_of_nothing_nothing_could_be_shown():
    assert math.isnan(smallest_effect(1.0, 1, 0.05))
    assert math.isnan(smallest_effect(math.nan, 5, 0.05))
    assert smallest_effect(0.0, 5, 0.05) == 0
