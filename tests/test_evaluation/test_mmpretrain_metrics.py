"""mmpretrain's metrics by their own names: the same results, and an error for missing labels."""

import mmpretrain.evaluation
import pytest
import torch

from hybridcls import evaluation
from hybridcls.evaluation import MissingFieldError
from hybridcls.evaluation.result_names import direction_of, unit_of
from hybridcls.registry import METRICS

NAMES = ['Accuracy', 'SingleLabelMetric', 'MultiLabelMetric', 'AveragePrecision', 'ConfusionMatrix']


def samples(count=40, classes=4):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(count, classes, generator=generator)
    labels = torch.randint(classes, (count, 1), generator=generator)
    return [dict(pred_score=score, gt_label=label) for score, label in zip(scores, labels, strict=True)]


@pytest.mark.parametrize('name', NAMES)
def test_results_equal_mmpretrain(name):
    ours, theirs = METRICS.get(name)(), getattr(mmpretrain.evaluation, name)()
    assert METRICS.get(name) is getattr(evaluation, name)
    results = []
    for metric in (ours, theirs):
        metric.process(None, samples())
        results.append(metric.evaluate(40))
    assert results[0].keys() == results[1].keys()
    for result in results[0]:
        torch.testing.assert_close(results[0][result], results[1][result], rtol=1e-6, atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_unlabelled_image_is_named(name):
    unlabelled = dict(pred_score=torch.tensor([0.9, 0.1]), img_path='cat/1.jpg')
    with pytest.raises(MissingFieldError) as caught:
        METRICS.get(name)().process(None, [unlabelled])
    assert str(caught.value).startswith(f'{name}: expected a gt_label for cat/1.jpg, got img_path, pred_score.')


def ranked(count=12, classes=6):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(count, classes, generator=generator)
    labels = [torch.randperm(classes, generator=generator)[:2] for _ in range(count)]
    return [
        dict(pred_score=score, gt_label=label, gt_label_difficult=[int(label[0])])
        for score, label in zip(scores, labels, strict=True)
    ]


@pytest.mark.parametrize(
    ('name', 'keys'),
    [
        ('RetrievalRecall', dict(topk=(1, 3))),
        ('RetrievalAveragePrecision', dict(topk=4)),
        ('VOCMultiLabelMetric', {}),
        ('VOCAveragePrecision', {}),
    ],
)
def test_metrics_of_retrieval_and_voc_declare_directions(name, keys):
    ours, theirs = METRICS.get(name)(**keys), getattr(mmpretrain.evaluation, name)(**keys)
    results = []
    for metric in (ours, theirs):
        metric.process(None, ranked())
        results.append(metric.evaluate(12))
    assert results[0] == pytest.approx(results[1])
    for result in results[0]:
        assert direction_of(result, [ours]) == (None if 'support' in result else 'greater')
        assert unit_of(result, [ours]) == ('images' if 'support' in result else '%')
    with pytest.raises(MissingFieldError, match=f'^{name}: expected a gt_label for'):
        METRICS.get(name)(**keys).process(None, [dict(pred_score=torch.tensor([0.9, 0.1]))])


def test_average_precision_of_a_retriever_counts_each_image_once():
    metric = METRICS.get('RetrievalAveragePrecision')(topk=4)
    samples = ranked()
    metric.process(None, samples)
    expected = metric.evaluate(12)
    metric.process(None, [*samples, samples[0], samples[0]])
    assert metric.evaluate(12) == pytest.approx(expected)
    assert metric.compute_metrics([]) == {}


@pytest.mark.parametrize('name', ['SingleLabelMetric', 'ConfusionMatrix'])
def test_an_image_of_another_class_and_no_image_are_told(name):
    metric = METRICS.build(dict(type=name))
    sample = dict(pred_score=torch.tensor([0.7, 0.3]), pred_label=torch.tensor([0]), gt_label=torch.tensor([2]))
    with pytest.raises(ValueError, match=f'{name}: expected images of the 2 classes of the model, got one of another'):
        metric.process(None, [sample])
    assert metric.evaluate(size=0) == {}
