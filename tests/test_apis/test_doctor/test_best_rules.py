"""A rule that keeps the worst is told, by what the metric says of its results."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.best_rules import check_rules
from hybridcls.apis.doctor.subject import Subject
from hybridcls.evaluation import Accuracy, CalibrationMetric

METRICS = SimpleNamespace(metrics=[Accuracy(), CalibrationMetric()])
RUNNER = SimpleNamespace(val_loop=SimpleNamespace(evaluator=METRICS), val_evaluator=METRICS)


def found(**hook):
    cfg = Config(dict(default_hooks=dict(own=hook), train_cfg=dict(max_epochs=10)))
    return [(one.level, one.where) for one in check_rules(Subject(cfg, ''), RUNNER)]


@pytest.mark.parametrize(
    ('names', 'rule', 'count'),
    [
        ('accuracy/top1', 'greater', 0),
        ('accuracy/top1', None, 0),
        ('accuracy/top1', 'less', 1),
        ('calibration/ece', 'less', 0),
        ('calibration/ece', 'greater', 1),
        ('auto', 'less', 0),
        (['accuracy/top1', 'calibration/nll'], ['greater', 'less'], 0),
        (['accuracy/top1', 'calibration/nll'], 'greater', 1),
    ],
)
def test_rules_of_checkpoints(names, rule, count):
    assert found(type='CheckpointHook', save_best=names, rule=rule) == [('problem', 'default_hooks.own.rule')] * count


def test_early_stopping():
    assert found(type='EarlyStoppingHook', monitor='accuracy/top1', patience=3) == []
    assert found(type='EarlyStoppingHook', monitor='accuracy/top1', rule='less', patience=10) == [
        ('problem', 'default_hooks.own.rule'), ('note', 'default_hooks.own.patience'),
    ]  # fmt: skip
