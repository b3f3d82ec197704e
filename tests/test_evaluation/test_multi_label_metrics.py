"""Metrics of several labels an image, beside scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from hybridcls.evaluation import AveragePrecision, MissingFieldError, MultiLabelMetric
from hybridcls.registry import METRICS

CLASSES = 5


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(40, CLASSES, generator=generator).round(decimals=1)  # with equals
    targets = (torch.rand(40, CLASSES, generator=generator) < 0.5 * scores).long()
    targets[:, 4] = 0  # a class without images
    return scores, targets


def samples(thresholds=None):
    more = {} if thresholds is None else dict(thresholds=thresholds)
    # A label beyond the classes is that of a class that the model does not have.
    return [
        dict(pred_score=score, gt_label=torch.cat([target.nonzero().flatten(), torch.tensor([CLASSES])]), **more)
        for score, target in zip(*data(), strict=True)
    ]


def evaluated(metric, **keys):
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'd', 'e', 'beyond'))
    metric.process(None, samples(**keys))
    return metric.evaluate(40)


def test_average_precision_is_scikit_learns():
    scores, targets = data()
    each = [100 * average_precision_score(targets[:, number], scores[:, number]) for number in range(4)]
    assert evaluated(AveragePrecision())['multi-label/mAP'] == pytest.approx(np.mean(each), abs=1e-4)
    by_class = evaluated(AveragePrecision(average=None))['multi-label/AP_classwise']
    assert by_class[:4] == pytest.approx(each, abs=1e-4)
    assert np.isnan(by_class[4])
    micro = 100 * average_precision_score(targets, scores, average='micro')
    assert evaluated(AveragePrecision(average='micro')) == {'multi-label/mAP_micro': pytest.approx(micro, abs=1e-4)}


def test_a_class_without_images_is_named_in_one_warning(monkeypatch):
    said = []
    monkeypatch.setattr('hybridcls.evaluation.multi_label_metrics.print_log', lambda text, *_: said.append(text))
    metric = AveragePrecision()
    evaluated(metric)
    evaluated(metric)
    assert said == ['AveragePrecision: 1 of 5 classes without an image among those evaluated (e); they are left out.']


def test_f1_at_the_thresholds_of_the_head():
    scores, targets = data()
    thresholds = torch.tensor([0.3, 0.5, 0.2, 0.7, 0.5])
    for average in ('macro', 'micro'):
        for own in (thresholds, None):
            predicted = scores >= (torch.full((CLASSES,), 0.5) if own is None else own)
            expected = 100 * f1_score(targets, predicted, average=average, zero_division=0)
            found = evaluated(MultiLabelMetric(average=average), thresholds=own)
            name = 'multi-label/f1-score' + ('' if average == 'macro' else '_micro')
            assert found[name] == pytest.approx(expected, abs=1e-4)
    fixed = evaluated(MultiLabelMetric(thr=0.5), thresholds=thresholds)  # what is written holds
    assert fixed == evaluated(MultiLabelMetric())


def test_without_images_or_labels_there_is_no_result():
    for metric in (AveragePrecision(), MultiLabelMetric()):
        assert metric.compute_metrics([]) == {}
    metric = AveragePrecision()
    metric.process(None, [dict(pred_score=torch.rand(2), gt_label=torch.tensor([], dtype=torch.int64))])
    assert metric.evaluate(1) == {}
    assert metric.no_result == 'No image has a label of a class of the model.'


def test_difficult_objects_and_broken_scores():
    metric = AveragePrecision()
    metric.process(None, [
        dict(pred_score=torch.tensor([score]), gt_score=torch.tensor([target]))
        for score, target in [(0.9, -1), (0.8, 1), (0.7, 0), (float('nan'), 1)]
    ])  # fmt: skip
    expected = 100 * average_precision_score([1, 0, 1], [0.8, 0.7, 0.0])
    assert metric.evaluate(4)['multi-label/mAP'] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('name', ['Accuracy', 'SingleLabelMetric', 'ConfusionMatrix', 'CalibrationMetric', 'OODMetric',
                                  'SelectiveMetric'])  # fmt: skip
def test_metrics_of_one_class_refuse_several(name):
    single = dict(pred_score=torch.tensor([0.6, 0.4]), gt_label=torch.tensor([0]), img_path='a.png')
    for changed in (dict(thresholds=torch.tensor([0.5, 0.5])), dict(gt_label=torch.tensor([0, 1]))):
        with pytest.raises(MissingFieldError, match=rf'^{name}: expected .* a\.png.* use AveragePrecision or Multi'):
            METRICS.get(name)().process(None, [{**single, **changed}])


@pytest.mark.parametrize('name', ['KNNAccuracy', 'RetrievalMetric', 'VerificationMetric'])
def test_metrics_of_neighbours_refuse_several(name):
    several = dict(embedding=torch.rand(4), gt_label=torch.tensor([0, 1]), img_path='a.png')
    with pytest.raises(MissingFieldError, match=rf'^{name}: expected one gt_label for a\.png, got 2\. For several'):
        METRICS.get(name)().process(None, [several])


def test_averages_are_checked():
    with pytest.raises(ValueError, match=r"AveragePrecision: expected average to be one of .*, got 'weighted'"):
        AveragePrecision(average='weighted')
