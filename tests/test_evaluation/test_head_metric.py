"""HeadMetric: each head of a MultiHead, and known images only, against the metric by itself."""

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from hybridcls.evaluation import HeadMetric
from hybridcls.registry import METRICS, MODELS


@pytest.fixture(scope='module')
def predictions():
    """Of a head with two heads; the last two images are of no known class."""
    torch.manual_seed(0)
    heads = dict(face=dict(type='ArcFaceHead'), evidence=dict(type='EvidentialHead'))
    head = MODELS.build(dict(type='MultiHead', num_classes=3, in_channels=5, heads=heads))
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 2, 0, 1, 2, -1, -1)]
    return head.predict(torch.randn(8, 5), samples)


def accuracy(samples, head):
    right = [s.heads.get(head).pred_label.item() == s.gt_label.item() for s in samples]
    return 100 * sum(right) / len(right)


def test_each_head_has_its_own_results(predictions):
    evaluator = Evaluator(
        [
            METRICS.build(cfg)
            for cfg in (
                dict(type='Accuracy'),
                dict(type='HeadMetric', metric=dict(type='Accuracy'), head='evidence', known_only=True),
                dict(type='HeadMetric', metric=dict(type='OODMetric', scores='epistemic'), head='evidence'),
            )
        ]
    )
    evaluator.process(predictions)
    result = evaluator.evaluate(8)
    assert result['accuracy/top1'] == pytest.approx(accuracy(predictions, 'face'))
    assert result['evidence/accuracy/top1'] == pytest.approx(accuracy(predictions[:6], 'evidence'))
    assert 'evidence/ood/auroc_epistemic' in result


def test_mmpretrain_metrics_with_known_only(predictions):
    metric = HeadMetric(dict(type='SingleLabelMetric', items=('recall',)), known_only=True)
    metric.process(None, [sample.to_dict() for sample in predictions])
    alone = METRICS.build(dict(type='SingleLabelMetric', items=('recall',)))
    alone.process(None, [sample.to_dict() for sample in predictions[:6]])
    assert metric.evaluate(8) == alone.evaluate(6)


def test_padded_samples_are_dropped(predictions):
    samples = [sample.to_dict() for sample in (*predictions[4:], *predictions[:4], *predictions[:2])]
    metric = HeadMetric(dict(type='Accuracy'), known_only=True)
    metric.process(None, samples)
    assert metric.evaluate(8)['accuracy/top1'] == pytest.approx(accuracy(predictions[:6], 'face'))


def test_dataset_meta_is_passed_on():
    metric = HeadMetric(dict(type='Accuracy'))
    metric.dataset_meta = dict(classes=('a', 'b'))
    assert metric.metric.dataset_meta == metric.dataset_meta == dict(classes=('a', 'b'))


def test_missing_head_is_an_error(predictions):
    with pytest.raises(
        KeyError, match="HeadMetric: expected predictions of head='fase', got predictions of evidence, face"
    ):
        HeadMetric(dict(type='Accuracy'), head='fase').process(None, [predictions[0].to_dict()])
    with pytest.raises(KeyError, match='of a model without MultiHead'):
        HeadMetric(dict(type='Accuracy'), head='face').process(None, [dict(pred_score=torch.ones(1))])


def test_only_unknown_images_have_no_result(predictions):
    metric = HeadMetric(dict(type='Accuracy'), known_only=True)
    metric.process(None, [sample.to_dict() for sample in predictions[6:]])
    assert metric.evaluate(2) == {}
