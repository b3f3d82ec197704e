"""Schedules on plateaus whose rule is that of the metric."""

from math import inf

import pytest
import torch

from hybridcls.engine.runner.reduce_on_plateau import (
    ReduceOnPlateauLR,
    ReduceOnPlateauMomentum,
    ReduceOnPlateauParamScheduler,
)
from hybridcls.registry import PARAM_SCHEDULERS


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)


@pytest.mark.parametrize(
    ('kind', 'args'),
    [(ReduceOnPlateauLR, ()), (ReduceOnPlateauMomentum, ()), (ReduceOnPlateauParamScheduler, ('lr',))],
)
def test_an_open_rule_is_filled_and_a_written_one_is_known(kind, args):
    open_one = kind(optimizer(), *args, monitor='score')
    assert (open_one.rule_is_open, open_one.rule) == (True, 'less')
    open_one.fill_rule('greater')
    assert (open_one.rule, open_one.best, open_one.rule_worse) == ('greater', -inf, -inf)
    assert not kind(optimizer(), *args, monitor='score', rule='greater').rule_is_open
    assert PARAM_SCHEDULERS.get(kind.__name__) is kind


def test_a_rising_score_keeps_the_rate_and_a_falling_one_does_not():
    scheduler = ReduceOnPlateauLR(optimizer(), monitor='score', patience=0, factor=0.5, threshold=0.0)
    scheduler.fill_rule('greater')
    rates = []
    for score in (1.0, 2.0, 3.0, 2.5):
        scheduler.step(dict(score=score))
        rates.append(scheduler.get_last_value()[0])
    assert rates == [1.0, 1.0, 1.0, 0.5]


def test_the_same_rule_again_keeps_the_best_score():
    scheduler = ReduceOnPlateauLR(optimizer(), monitor='score')
    scheduler.best = 0.3
    scheduler.fill_rule('less')
    assert scheduler.best == 0.3
