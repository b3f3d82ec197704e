"""Exact tests of groups: against Fisher's test, every assignment counted by hand, and shuffles."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact

from hybridcls.functional.metrics.excess_tests import ExcessTests, excess_family


def test_with_one_stratum_it_is_fishers_test():
    generator = np.random.default_rng(0)
    for _ in range(10):
        images = generator.integers(4, 50)
        members = generator.random((8, images)) < generator.random()
        marked = generator.random(images) < generator.random()
        tests = ExcessTests(members, np.zeros(images, dtype=int), marked)
        for own, p_value in zip(members, tests.p_values, strict=True):
            table = [[(own & marked).sum(), (own & ~marked).sum()], [(~own & marked).sum(), (~own & ~marked).sum()]]
            assert p_value == pytest.approx(fisher_exact(table, 'greater').pvalue, rel=1e-9)


def test_strata_are_shuffled_apart():
    strata = np.array([0, 1, 2, 0, 0, 1, 1, 2, 0])
    marked = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0], dtype=bool)
    members = np.random.default_rng(1).random((6, 9)) < 0.5
    tests = ExcessTests(members, strata, marked)
    own = [np.flatnonzero(strata == stratum) for stratum in range(3)]
    choices = [list(combinations(rows, marked[rows].sum())) for rows in own]
    drawn = np.zeros((np.prod(list(map(len, choices))), 9), dtype=int)
    for row, chosen in enumerate(product(*choices)):
        drawn[row, np.concatenate(chosen)] = 1
    counts = members.astype(int) @ drawn.T
    np.testing.assert_allclose(tests.p_values, (counts >= tests.counts[:, None]).mean(1), rtol=1e-10)
    np.testing.assert_allclose(tests.expected, counts.mean(1), rtol=1e-10)


def test_many_groups_keep_their_order():
    generator = np.random.default_rng(2)
    members = generator.random((600, 40)) < generator.random((600, 1))
    marked = generator.random(40) < 0.3
    strata = generator.integers(0, 3, 40)
    tests = ExcessTests(members, strata, marked)
    alone = [ExcessTests(members[[row]], strata, marked).p_values[0] for row in (0, 299, 300, 599)]
    np.testing.assert_allclose(tests.p_values[[0, 299, 300, 599]], alone, rtol=1e-12)


def test_the_p_values_of_shuffles_are_uniform_as_far_as_discrete_ones_can_be():
    generator = np.random.default_rng(3)
    members = generator.random((5, 60)) < 0.4
    tests = ExcessTests(members, generator.integers(0, 4, 60), generator.random(60) < 0.3)
    drawn = np.concatenate(list(tests.shuffled(2000)), axis=1)
    assert drawn.shape == (5, 2000)
    for level in (0.02, 0.1, 0.5):
        assert (drawn <= level).sum(1).max() <= binom.ppf(0.9999, 2000, level)
    assert (drawn <= 0.5).mean() > 0.3  # not all 1


def test_shuffles_stay_inside_the_strata():
    strata = np.arange(20) % 2
    groups = np.stack([strata == 1, (strata == 1) | (np.arange(20) < 2)])
    tests = ExcessTests(groups, strata, (strata == 0) & (np.arange(20) < 10))
    drawn = np.concatenate(list(tests.shuffled(50)), axis=1)
    assert (drawn[0] == 1).all()  # none of its images is ever marked
    assert set(np.round(drawn[1], 9)) == {0.5, 1.0}  # one of its images is: five of ten


@pytest.mark.parametrize('level', [0.05, 0.2])
def test_a_family_says_nothing_of_shuffled_marks_more_often_than_the_level(level):
    generator = np.random.default_rng(4)
    values = generator.random(80)
    thresholds = np.linspace(0.1, 0.9, 15)[:, None]
    members = np.concatenate([values < thresholds, values > thresholds])
    strata = generator.integers(0, 3, 80)
    marked = np.arange(80) < 16
    hits = 0
    for seed in range(60):
        marked = generator.permutation(marked)
        hits += bool((excess_family(ExcessTests(members, strata, marked), level, seed).by_chance <= level).any())
    assert hits <= binom.ppf(0.9999, 60, level)


def test_a_family_finds_what_is_there_and_blames_no_hard_stratum():
    generator = np.random.default_rng(5)
    strata = np.repeat([0, 1], 100)
    dark = generator.random(200) < np.where(strata == 0, 0.8, 0.2)  # the hard class is dark
    blurred = generator.random(200) < 0.25
    hard = generator.random(200) < np.where(strata == 0, 0.6, 0.05)
    families = [
        excess_family(ExcessTests(np.stack([dark, blurred]), of, marked), 0.05).by_chance
        for of, marked in ((strata, hard), (np.zeros(200, int), hard), (strata, hard | (blurred & (strata == 1))))
    ]
    assert (families[0] > 0.05).all()
    assert families[1][0] <= 0.001  # without strata dark images would be blamed
    assert families[2][1] <= 0.001
    assert families[2][0] > 0.05


def test_edges():
    nothing = ExcessTests(np.ones((2, 4), dtype=bool), np.zeros(4, int), np.zeros(4, dtype=bool))
    assert nothing.p_values.tolist() == [1, 1]
    assert (excess_family(nothing, 0.05).by_chance == 1).all()
    everything = ExcessTests(np.eye(4, dtype=bool), np.zeros(4, int), np.ones(4, dtype=bool))
    assert everything.p_values.tolist() == [1, 1, 1, 1]
    no_groups = ExcessTests(np.zeros((0, 4), dtype=bool), np.zeros(4, int), np.ones(4, dtype=bool))
    assert excess_family(no_groups, 0.1).by_chance.shape == (0,)
    with pytest.raises(ValueError, match='ExcessTests: expected members'):
        ExcessTests(np.ones((2, 3), dtype=bool), np.zeros(4, int), np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match='excess_family: expected level'):
        excess_family(nothing, 1.5)
