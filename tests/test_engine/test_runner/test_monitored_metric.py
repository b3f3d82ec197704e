"""What waits for a result of the validation knows its name and which way is better before the first step."""

import types

import pytest
from mmengine.logging import MessageHub

from hybridcls.engine.runner.monitored_metric import check_monitor, guessed_rule, monitored_result, rule_for
from hybridcls.evaluation import Accuracy, CalibrationMetric, HeadMetric, OODMetric, ValLoss
from hybridcls.registry import METRICS


def runner_with(*metrics):
    loop = types.SimpleNamespace(evaluator=types.SimpleNamespace(metrics=list(metrics))) if metrics else None
    hub = MessageHub.get_instance(f'test_monitored_metric_{id(metrics)}')
    return types.SimpleNamespace(val_loop=loop, message_hub=hub)


@pytest.mark.parametrize(
    ('name', 'metric', 'rule'),
    [
        ('calibration/ece', CalibrationMetric(), 'less'),
        ('ood/fpr95_least_confidence', OODMetric(), 'less'),
        ('evidence/ood/auroc_least_confidence', HeadMetric(dict(type='OODMetric'), head='evidence'), 'greater'),
        ('val/loss', ValLoss(), 'less'),
        # The head's name has mmengine's 'acc' and 'top' in it; the metric knows better.
        ('top_acc/calibration/nll', HeadMetric(dict(type='CalibrationMetric'), head='top_acc'), 'less'),
        ('multi-label/mAP', METRICS.build(dict(type='mmpretrain.AveragePrecision')), 'greater'),  # by mmengine's words
    ],
)
def test_the_rule_is_the_metrics(name, metric, rule):
    runner = runner_with(metric)
    check_monitor('X: monitor', name, runner)
    assert rule_for('X: monitor', name, runner) == rule


def test_an_unknown_rule_is_asked_for():
    with pytest.raises(ValueError, match=r"^X: monitor='val/kl': .*Add rule='greater' or rule='less'"):
        rule_for('X: monitor', 'val/kl', runner_with(ValLoss()))
    assert guessed_rule('val/kl') is None


def test_a_wrong_name_is_answered_before_the_first_step():
    with pytest.raises(
        ValueError, match=r"^X: monitor='calibration/eec' is not a metric of .*Did you mean 'calibration/ece'"
    ):
        check_monitor('X: monitor', 'calibration/eec', runner_with(Accuracy(), CalibrationMetric()))
    silent = METRICS.build(dict(type='mmpretrain.AveragePrecision'))  # does not say what it gives
    check_monitor('X: monitor', 'calibration/eec', runner_with(CalibrationMetric(), silent))
    check_monitor('X: monitor', 'anything', runner_with())  # no validation


def test_a_wrong_name_is_answered_at_the_first_validation():
    silent = METRICS.build(dict(type='mmpretrain.AveragePrecision'))
    with pytest.raises(ValueError, match=r"'multi-label/AP' is not a metric .*: multi-label/mAP\. Did you mean"):
        monitored_result('X: monitor', 'multi-label/AP', runner_with(silent), {'multi-label/mAP': 1.0})


def test_a_result_and_the_reason_why_there_is_none(monkeypatch):
    said = []
    monkeypatch.setattr('hybridcls.engine.runner.monitored_metric.print_log', lambda text, *_: said.append(text))
    metric = OODMetric()
    runner = runner_with(metric)
    assert monitored_result(
        'X: monitor', 'ood/auroc_least_confidence', runner, {'ood/auroc_least_confidence': 7.0}
    ) == (7.0, '')
    assert metric.evaluate(0) == {}
    for _ in range(2):
        result, sentence = monitored_result('X: monitor', 'ood/auroc_least_confidence', runner, {})
        assert result is None
        assert sentence.startswith(
            "X: monitor='ood/auroc_least_confidence' had no result in the validation. OODMetric: Expe"
        )
    assert said == [sentence]
