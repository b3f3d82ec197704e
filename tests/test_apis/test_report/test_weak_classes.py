"""Weak classes are named by a binomial test, in error as seldom as is said."""

import numpy as np
from scipy.stats import binom, binomtest, false_discovery_control

from hybridcls.apis.report.weak_classes import weak_classes


def row(name, hits, images, right=None, predictions=None):
    predictions = images if predictions is None else predictions
    right = hits if right is None else right
    return {
        'class': name, 'images': images, 'recall_percent': 100 * hits / images if images else None,
        'predictions': predictions, 'precision_percent': 100 * right / predictions if predictions else None,
    }  # fmt: skip


def test_the_weak_ones_are_those_of_scipy():
    counts = [(2, 20), (16, 20), (9, 20), (40, 40), (0, 0), (1, 5)]
    table = [row(str(number), *count) for number, count in enumerate(counts)]
    p_values = [binomtest(hits, images, 0.8, alternative='less').pvalue for hits, images in counts if images]
    named = [name for name, p in zip('01235', false_discovery_control(p_values), strict=True) if p <= 0.05]
    found = weak_classes(table, 0.8)
    assert sorted(found.missed) == sorted(named) == ['0', '2', '5']
    assert found.missed[0] == '0'  # the worst
    assert found.unknown == ['4', '5']  # the fewest images first


def test_answers_that_are_often_wrong_are_named():
    table = [row('a', 19, 20, right=19, predictions=60), row('b', 19, 20, right=19, predictions=20)]
    assert weak_classes(table, 0.9)[:2] == ([], ['a'])


def test_of_equal_classes_few_are_named():
    rng, named = np.random.default_rng(0), 0
    for _ in range(200):
        table = [row(str(number), int(hits), 30) for number, hits in enumerate(rng.binomial(30, 0.7, 40))]
        named += bool(weak_classes(table, 0.7).missed)
    assert named <= binom.ppf(0.99, 200, 0.05)
