"""Schedules that wait for a result, with a rule of their own or the metric's."""

import pytest
import torch
from mmengine.optim.scheduler import ReduceOnPlateauLR as Theirs
from torch import nn

from hybridcls.registry import PARAM_SCHEDULERS


def built(cls, **settings):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    options = dict(monitor='top1', patience=0, factor=0.5, **settings)
    return optimizer, PARAM_SCHEDULERS.build(dict(type=cls, optimizer=optimizer, **options))


def rates(optimizer, schedule, results):
    seen = []
    for result in results:
        schedule.step(dict(top1=result))
        seen.append(optimizer.param_groups[0]['lr'])
    return seen


RESULTS = [1.0, 2.0, 3.0, 2.5, 2.5]


@pytest.mark.parametrize('rule', ['less', 'greater'])
def test_a_rule_of_its_own_is_mmengines(rule):
    optimizer, schedule = built('ReduceOnPlateauLR', rule=rule)
    assert not schedule.rule_is_open
    assert rates(optimizer, schedule, RESULTS) == rates(*built(Theirs, rule=rule), RESULTS)


def test_an_open_rule_is_filled_before_the_first_result():
    optimizer, schedule = built('ReduceOnPlateauLR')
    assert schedule.rule_is_open
    schedule.fill_rule('greater')
    assert rates(optimizer, schedule, RESULTS) == [1.0, 1.0, 1.0, 0.5, 0.25]


def test_the_best_so_far_stays_where_the_rule_does():
    optimizer, schedule = built('ReduceOnPlateauLR', rule='greater')
    rates(optimizer, schedule, [3.0])
    schedule.fill_rule('greater')
    assert schedule.best == 3.0
    schedule.fill_rule('less')
    assert schedule.best == schedule.rule_worse == float('inf')
