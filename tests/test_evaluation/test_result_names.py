"""Directions, units and missing results of every metric."""

import re

import pytest
import torch
from mmengine.evaluator import BaseMetric

from hybridcls.evaluation import (
    Accuracy,
    CalibrationMetric,
    HeadMetric,
    KNNAccuracy,
    OODMetric,
    RetrievalMetric,
    SelectiveMetric,
    SingleLabelMetric,
    ValLoss,
    VerificationMetric,
)
from hybridcls.evaluation.result_names import (
    described,
    direction_of,
    is_without_result,
    known_names,
    metric_of,
    reason_for_no_result,
    unit_of,
)


class Plain(BaseMetric):
    """A metric that declares nothing about its results."""

    default_prefix = 'plain'

    def process(self, data_batch, data_samples):
        pass

    def compute_metrics(self, results):
        return {'score': 1.0}


@pytest.mark.parametrize(
    ('metric', 'name', 'direction', 'unit'),
    [
        (Accuracy(topk=(1, 5)), 'accuracy/top5', 'greater', '%'),
        (Accuracy(thrs=(0.1, 0.5)), 'accuracy/top1_thr-0.10', 'greater', '%'),
        (CalibrationMetric(), 'calibration/nll', 'less', 'nats'),
        (CalibrationMetric(prefix='late'), 'late/ece', 'less', '%'),
        (CalibrationMetric(), 'calibration/brier', 'less', None),
        (KNNAccuracy(), 'knn/top1', 'greater', '%'),
        (OODMetric('total', recall=0.9), 'ood/fpr90_total', 'less', '%'),
        (OODMetric('total'), 'ood/auroc_total', 'greater', '%'),
        (SelectiveMetric('total', coverages=(0.75,)), 'selective/risk75_total', 'less', '%'),
        (SelectiveMetric(), 'selective/eaurc_least_confidence', 'less', '%'),
        (RetrievalMetric(topk=3), 'retrieval/recall@3', 'greater', '%'),
        (VerificationMetric(far=0.01), 'verification/tar@0.01', 'greater', '%'),
        (SingleLabelMetric(), 'single-label/f1-score', 'greater', '%'),
        (SingleLabelMetric(), 'single-label/f1-score_classwise', None, '%'),
        (ValLoss(), 'val/loss', 'less', 'nats'),
        (ValLoss(), 'val/face.loss', 'less', 'nats'),
        (ValLoss(), 'val/kl', None, 'nats'),
        (ValLoss(), 'val/norm_mean', None, None),
        (HeadMetric(dict(type='OODMetric'), head='face'), 'face/ood/auroc_least_confidence', 'greater', '%'),
        (HeadMetric(dict(type='CalibrationMetric'), known_only=True), 'calibration/mce', 'less', '%'),
    ],
)
def test_direction_and_unit(metric, name, direction, unit):
    metrics = [Plain(), metric]
    assert metric_of(name, metrics) is metric
    assert (direction_of(name, metrics), unit_of(name, metrics)) == (direction, unit)


def test_unknown_result_has_no_direction():
    for name in ('calibration/eec', 'ece', 'accuracy/top5', 'plain/score'):
        assert direction_of(name, [CalibrationMetric(), Accuracy(topk=1), Plain()]) is None


def test_names_are_known_if_all_metrics_declare_them():
    assert known_names([Accuracy(topk=1), CalibrationMetric(), HeadMetric(dict(type='KNNAccuracy'), head='a')])[
        -2:
    ] == [
        'calibration/nll',
        'a/knn/top1',
    ]
    assert known_names([Accuracy(), Plain()]) is None
    assert known_names([HeadMetric(dict(type='hybridcls.Accuracy')), Plain()]) is None


def score(value, label):
    return dict(pred_score=torch.tensor([value, 1 - value]), gt_label=torch.tensor([label]), embedding=torch.ones(2))


@pytest.mark.parametrize(
    ('metric', 'samples', 'names', 'why'),
    [
        (
            OODMetric(),
            [score(0.9, 0), score(0.8, 1)],
            ['ood/auroc_least_confidence'],
            '2 known and 0 .*MarkUnknown',
        ),
        (OODMetric(), [score(0.9, -1)], ['ood/auroc_least_confidence'], '0 known and 1 unknown'),
        (CalibrationMetric(), [score(0.9, -1)], ['calibration/ece'], 'all labels are -1'),
        (SelectiveMetric(), [score(0.9, 7)], ['selective/aurc_least_confidence'], 'all labels are -1 or outside'),
        (RetrievalMetric(), [score(0.9, 0), score(0.9, 1)], ['retrieval/map@r'], 'None of the 2 images'),
        (
            VerificationMetric(far=0.1),
            [score(0.9, 0), score(0.9, 1)],
            ['verification/tar@0.1'],
            'at least 1 genuine pair .* got 0 and 1',
        ),
        (KNNAccuracy(), [score(0.9, 0)], ['knn/top1'], 'A single image'),
        (Accuracy(topk=5), [score(0.9, 0)], ['accuracy/top5'], 'There are 2 classes'),
        (ValLoss(), [score(0.9, 0)], ['val/loss', 'val/loss_ce'], 'No image has val_losses'),
        (HeadMetric(dict(type='Accuracy'), known_only=True), [score(0.9, -1)], ['accuracy/top1'], 'all labels are -1'),
        (HeadMetric(dict(type='OODMetric')), [score(0.9, -1)], ['ood/auroc_least_confidence'], '0 known and 1 unknown'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseMetric) else '',
)
def test_missing_result_is_logged_once(metric, samples, names, why, monkeypatch):
    logged = []
    monkeypatch.setattr('hybridcls.evaluation.result_names.print_log', lambda text, *_: logged.append(text))
    for _ in range(2):
        metric.process(None, samples)
        assert metric.evaluate(len(samples)) == {}
    (sentence,) = logged
    for name in names:
        assert is_without_result(name, [Plain(), metric], {'plain/score': 1.0})
        assert reason_for_no_result(name, [metric]).split(': ', 1)[1] in sentence
    assert re.search(why, sentence)


@pytest.mark.parametrize(
    'metric', [OODMetric(), CalibrationMetric(), SelectiveMetric(), RetrievalMetric(), KNNAccuracy()]
)
def test_no_image_is_logged(metric):
    assert metric.evaluate(0) == {}
    assert metric.no_result


def test_name_of_a_pattern_is_an_error_beside_other_results():
    metrics = [ValLoss()]
    assert not is_without_result('val/lossy', metrics, {'val/loss': 1.0})
    assert is_without_result('val/loss', metrics, {})
    assert not is_without_result('calibration/ece', metrics, {})


@pytest.mark.parametrize('declared', [['score'], {'score': 'higher'}])
def test_declarations_that_cannot_be_read(declared):
    metric = Plain()
    metric.directions = declared
    with pytest.raises(TypeError, match="Plain: expected directions that map each result to 'greater'"):
        known_names([metric])


def test_units_and_directions_of_results_also_of_corrupted_images():
    metrics = [Accuracy(confidence=0.9), CalibrationMetric()]
    names = ['accuracy/top1', 'accuracy/top1_low', 'accuracy/top1_high', 'corruption/blur_3/calibration/nll', 'own']
    assert described(names, metrics) == {
        'accuracy/top1': dict(unit='%', better='greater'),
        'corruption/blur_3/calibration/nll': dict(unit='nats', better='less'),
    }
