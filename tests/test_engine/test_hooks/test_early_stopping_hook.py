"""Early stopping knows its metric, and a wrong name does not train to the end."""

import types

import pytest
from mmengine.logging import MessageHub, MMLogger

from hybridcls.engine.hooks import EarlyStoppingHook
from hybridcls.evaluation import CalibrationMetric, KNNAccuracy, OODMetric
from hybridcls.registry import HOOKS


def runner_with(*metrics):
    evaluator = types.SimpleNamespace(metrics=list(metrics))
    return types.SimpleNamespace(
        val_loop=types.SimpleNamespace(evaluator=evaluator),
        train_loop=types.SimpleNamespace(stop_training=False),
        message_hub=MessageHub.get_instance(f'test_early_stopping_{id(metrics)}'),
        logger=MMLogger.get_instance('test_early_stopping'),
        iter=1,
    )


def epochs_until_stop(hook, runner, scores):
    hook.before_train(runner)
    for epoch, score in enumerate(scores, 1):
        hook.after_val_epoch(runner, {hook.monitor: score})
        if runner.train_loop.stop_training:
            return epoch
    return None


def test_the_bare_name_means_ours():
    assert HOOKS.get('EarlyStoppingHook') is EarlyStoppingHook


def test_a_test_builds_no_training():
    """Its data would name the classes of the model, which are those of the checkpoint."""
    EarlyStoppingHook('knn/top1').before_run(types.SimpleNamespace())


@pytest.mark.parametrize(
    ('monitor', 'metric', 'scores', 'stops'),
    [
        ('calibration/ece', CalibrationMetric(), [9.0, 8.0, 7.0, 6.0], None),  # falls, which is good
        ('calibration/ece', CalibrationMetric(), [6.0, 7.0, 8.0, 5.0], 3),
        ('knn/top1', KNNAccuracy(), [6.0, 7.0, 8.0, 9.0], None),
        ('knn/top1', KNNAccuracy(), [9.0, 9.05, 8.0, 9.0], 3),  # 0.05 is less than min_delta
        ('calibration/ece', CalibrationMetric(), [6.0, 5.95, 5.97, 4.0], 3),
    ],
)
def test_it_stops_where_the_metric_does_not_improve(monitor, metric, scores, stops):
    hook = EarlyStoppingHook(monitor, patience=2)
    assert epochs_until_stop(hook, runner_with(metric), scores) == stops


def test_a_written_rule_stays():
    hook = EarlyStoppingHook('knn/top1', rule='less', patience=1)
    assert epochs_until_stop(hook, runner_with(KNNAccuracy()), [5.0, 6.0]) == 2
    assert hook.rule == 'less'


def test_what_it_knows_from_before_is_kept():
    runner, hook = runner_with(CalibrationMetric()), EarlyStoppingHook('calibration/ece', patience=2)
    assert epochs_until_stop(hook, runner, [6.0, 7.0]) is None
    assert epochs_until_stop(hook, runner, [8.0]) == 1


def test_a_score_that_a_resume_has_given_back_is_kept():
    hook = EarlyStoppingHook('calibration/ece', patience=2)
    hook.best_score, hook.wait_count = 6.0, 1
    assert epochs_until_stop(hook, runner_with(CalibrationMetric()), [7.0]) == 1


def test_a_wrong_name_is_an_error():
    with pytest.raises(
        ValueError, match=r"EarlyStoppingHook: monitor='calibration/eec' is not a metric of .* Did you mean"
    ):
        EarlyStoppingHook('calibration/eec').before_train(runner_with(CalibrationMetric()))
    with pytest.raises(ValueError, match=r"EarlyStoppingHook: monitor='a/b' is not a metric .*: a/c\."):
        EarlyStoppingHook('a/b').after_val_epoch(runner_with(CalibrationMetric()), {'a/c': 1.0})


@pytest.mark.parametrize('strict', [False, True])
def test_a_metric_with_nothing_to_compute(strict):
    hook, runner = EarlyStoppingHook('ood/auroc_least_confidence', strict=strict, patience=1), runner_with(OODMetric())
    hook.before_train(runner)
    for _ in range(3):
        if strict:
            with pytest.raises(ValueError, match=r'had no result in the validation\.'):
                hook.after_val_epoch(runner, {'knn/top1': 1.0})
        else:
            hook.after_val_epoch(runner, {'knn/top1': 1.0})
    assert not runner.train_loop.stop_training
