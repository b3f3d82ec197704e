"""mmpretrain's metrics by their own names: the same results, and an error for missing labels."""

import mmpretrain.evaluation
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

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


def samples_of(scores, labels):
    return [dict(pred_score=row, gt_label=torch.tensor([label])) for row, label in zip(scores, labels, strict=True)]


def result_of(metric, own):
    metric.process(None, own)
    return metric.evaluate(len(own))


def test_of_equal_scores_the_first_class_is_predicted_as_in_accuracy():
    scores = torch.tensor([[0.2] * 5, [0.1, 0.3, 0.3, 0.1, 0.2], [0.25, 0.0, 0.25, 0.25, 0.25]])
    own = samples_of(scores, [0, 1, 0])
    expected = precision_recall_fscore_support([0, 1, 0], scores.numpy().argmax(1), average='macro', zero_division=0,
                                               labels=range(5))[:3]  # fmt: skip
    found = result_of(evaluation.SingleLabelMetric(), own)
    assert [found[f'single-label/{item}'] for item in ('precision', 'recall', 'f1-score')] == pytest.approx(
        [100 * value for value in expected]
    )


@pytest.mark.parametrize('threshold', [None, 0.0, 0.5])
def test_a_score_that_is_nan_is_no_hit(threshold):
    nan = float('nan')
    own = samples_of(torch.tensor([[nan, 0.1], [0.9, nan], [0.8, 0.2], [0.7, 0.3]]), [0, 1, 0, 1])
    found = result_of(evaluation.SingleLabelMetric(thrs=threshold, average='micro'), own)
    assert found['single-label/precision_micro'] == 50
    assert found['single-label/recall_micro'] == 25


def test_an_image_with_nan_has_no_place_in_the_confusion_matrix(caplog):
    own = samples_of(torch.tensor([[float('nan'), 0.1], [0.8, 0.2], [0.7, 0.3]]), [0, 0, 1])
    with caplog.at_level('WARNING'):
        matrix = result_of(evaluation.ConfusionMatrix(num_classes=2), own)['confusion_matrix/result']
    assert matrix.tolist() == [[1, 0], [1, 0]]
    metric = evaluation.ConfusionMatrix(num_classes=2)
    assert result_of(metric, own[:1]) == {}
    assert metric.no_result == '1 of 1 images have a score that is NaN.'
