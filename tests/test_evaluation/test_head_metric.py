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


@pytest.mark.parametrize('inside', [dict(type='KNNAccuracy', k=1), dict(type='LinearProbeAccuracy')])
def test_a_bank_reaches_the_metric_inside(inside):
    """And is dropped after the evaluation. Leave-one-out would find the other class."""
    rows, labels = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 1, -1])
    metric = HeadMetric(inside, known_only=True)
    assert not hasattr(metric, 'set_gallery')
    metric.set_bank(torch.tensor([[1.0, 0.02], [0.9, 0.12]]).repeat(4, 1), torch.tensor([0, 1] * 4))
    for row, label in zip(rows, labels, strict=True):
        metric.process(None, [dict(embedding=row, gt_label=label.view(1), pred_score=torch.ones(2) / 2)])
    (top1,) = metric.evaluate(size=3).values()
    assert top1 == 100
    assert metric.metric.bank is None


def test_a_gallery_reaches_the_metric_inside():
    metric = HeadMetric(dict(type='RetrievalMetric', topk=1), known_only=True)
    metric.set_gallery(torch.eye(2), torch.tensor([4, 5]))
    metric.process(None, [dict(embedding=torch.eye(2)[1], gt_label=torch.tensor([5]), pred_score=torch.ones(9))])
    assert metric.evaluate(size=1)['retrieval/recall@1'] == 100
    assert metric.metric.evaluate(size=0) == {}  # nothing is left
