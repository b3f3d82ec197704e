"""ReduceOnPlateauLR asks the metric which way is better, and a wrong name is a sentence."""

import types

import pytest
import torch
from mmengine.logging import MessageHub

from hybridcls.engine.hooks import ParamSchedulerHook
from hybridcls.engine.runner.reduce_on_plateau import ReduceOnPlateauLR
from hybridcls.evaluation import CalibrationMetric, KNNAccuracy, OODMetric
from hybridcls.registry import HOOKS, PARAM_SCHEDULERS


def runner_with(*metrics, **scheduler):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = PARAM_SCHEDULERS.build(dict(type='ReduceOnPlateauLR', optimizer=optimizer, patience=0, **scheduler))
    evaluator = types.SimpleNamespace(metrics=list(metrics))
    return types.SimpleNamespace(
        val_loop=types.SimpleNamespace(evaluator=evaluator),
        message_hub=MessageHub.get_instance(f'test_param_scheduler_{id(metrics)}'),
        param_schedulers=[built],
        optimizer=optimizer,
        iter=1,
    )


def rates(runner, scores, name):
    hook = ParamSchedulerHook()
    hook.before_train(runner)
    found = []
    for score in scores:
        hook.after_val_epoch(runner, {name: score})
        found.append(round(runner.optimizer.param_groups[0]['lr'], 6))
    return found


def test_the_bare_names_mean_ours():
    assert HOOKS.get('ParamSchedulerHook') is ParamSchedulerHook
    assert PARAM_SCHEDULERS.get('ReduceOnPlateauLR') is ReduceOnPlateauLR


@pytest.mark.parametrize(
    ('monitor', 'metric', 'options', 'expected'),
    [
        ('knn/top1', KNNAccuracy(), {}, [1.0, 1.0, 0.1]),
        ('calibration/nll', CalibrationMetric(), {}, [1.0, 0.1, 0.1]),
        ('knn/top1', KNNAccuracy(), dict(rule='less'), [1.0, 0.1, 0.1]),  # as written
    ],
)
def test_the_rate_falls_where_the_metric_does_not_improve(monitor, metric, options, expected):
    assert rates(runner_with(metric, monitor=monitor, **options), [5.0, 6.0, 4.0], monitor) == expected


def test_what_it_remembers_is_kept_on_resume():
    runner = runner_with(KNNAccuracy(), monitor='knn/top1')
    assert rates(runner, [5.0, 6.0], 'knn/top1') == [1.0, 1.0]
    resumed = runner_with(KNNAccuracy(), monitor='knn/top1')
    resumed.param_schedulers[0].load_state_dict(runner.param_schedulers[0].state_dict())
    assert rates(resumed, [5.5], 'knn/top1') == [0.1]


def test_a_wrong_name_is_an_error():
    runner = runner_with(CalibrationMetric(), monitor='calibration/nl')
    with pytest.raises(
        ValueError, match=r"^ReduceOnPlateauLR: monitor='calibration/nl' is not a metric of .* Did you mean"
    ):
        ParamSchedulerHook().before_train(runner)
    with pytest.raises(ValueError, match=r"^ReduceOnPlateauLR: monitor='calibration/nl' is not a metric of .*: a/b\."):
        ParamSchedulerHook().after_val_epoch(runner, {'a/b': 1.0})


def test_a_metric_with_nothing_to_compute_leaves_the_rate():
    runner = runner_with(OODMetric(), monitor='ood/auroc_least_confidence')
    assert rates(runner, [5.0], 'ood/auroc_least_confidence') == [1.0]
    ParamSchedulerHook().after_val_epoch(runner, {'a/b': 1.0})
    assert runner.optimizer.param_groups[0]['lr'] == 1.0
