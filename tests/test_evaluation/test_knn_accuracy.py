"""KNNAccuracy: with and without a bank, against scikit-learn's classifier."""

import logging
import pickle

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from sklearn.neighbors import KNeighborsClassifier

from hybridcls.evaluation import KNNAccuracy, MissingFieldError
from hybridcls.registry import METRICS


def clouds(count, classes=5, width=8, seed=0, spread=1.0):
    """Overlapping clouds on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    class_weights = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(0, classes, (count,), generator=generator)
    return class_weights[labels] + spread * torch.randn(count, width, generator=generator), labels


def as_dicts(embeddings, labels):
    return [dict(embedding=row, gt_label=label.view(1)) for row, label in zip(embeddings, labels, strict=True)]


def evaluated(metric, embeddings, labels, batch=32):
    samples = as_dicts(embeddings, labels)
    for start in range(0, len(samples), batch):
        metric.process(None, samples[start : start + batch])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('k', [1, 5, 20])
@pytest.mark.parametrize('vote', ['softmax', 'uniform'])
def test_top1_equals_scikit_learn(k, vote):
    bank, bank_labels = clouds(300, seed=1)
    rows, labels = clouds(170, seed=2)
    weights = 'uniform' if vote == 'uniform' else lambda distance: np.exp((1 - distance) / 0.07)
    oracle = KNeighborsClassifier(n_neighbors=k, metric='cosine', weights=weights).fit(bank, bank_labels)
    metric = KNNAccuracy(k=k, vote=vote)
    metric.set_bank(bank, bank_labels)
    result = evaluated(metric, rows, labels)
    assert result == {'knn/top1': pytest.approx(100 * oracle.score(rows, labels))}
    assert 20 < result['knn/top1'] < 100


def test_top5_equals_scikit_learn():
    bank, bank_labels = clouds(300, classes=9, seed=1, spread=2.0)
    rows, labels = clouds(170, classes=9, seed=2, spread=2.0)
    oracle = KNeighborsClassifier(20, metric='cosine', weights=lambda distance: np.exp((1 - distance) / 0.07))
    shares = oracle.fit(bank, bank_labels).predict_proba(rows)
    order = np.argsort(-shares, axis=1)
    metric = KNNAccuracy(topk=(1, 3))
    metric.set_bank(bank, bank_labels)
    result = evaluated(metric, rows, labels)
    for number in (1, 3):
        hits = [label in order[row, :number] and shares[row, label] > 0 for row, label in enumerate(labels.tolist())]
        assert result[f'knn/top{number}'] == pytest.approx(100 * np.mean(hits))


def test_without_a_bank_is_leave_one_out():
    rows, labels = clouds(60, seed=4)
    hits = 0
    for own in range(60):
        others = [index for index in range(60) if index != own]
        oracle = KNeighborsClassifier(3, metric='cosine').fit(rows[others], labels[others])
        hits += oracle.predict(rows[own : own + 1])[0] == labels[own].item()
    assert evaluated(KNNAccuracy(k=3, vote='uniform'), rows, labels)['knn/top1'] == pytest.approx(100 * hits / 60)


def test_bank_is_used_once():
    rows, labels = clouds(40)
    metric = KNNAccuracy(k=1)
    metric.set_bank(rows, labels)
    assert evaluated(metric, rows, labels) == {'knn/top1': 100.0}
    assert evaluated(metric, rows, labels)['knn/top1'] < 100
    assert metric.results == []


def test_samples_go_through_mmengines_evaluator():
    rows, labels = clouds(12)
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    for sample, row in zip(samples, rows, strict=True):
        sample.embedding = row
    evaluator = Evaluator(METRICS.build(dict(type='hybridcls.KNNAccuracy', k=1)))
    evaluator.metrics[0].set_bank(rows, labels)
    evaluator.process(samples)
    assert evaluator.evaluate(12) == {'knn/top1': 100.0}


def test_k_above_the_bank_size_is_one_warning(monkeypatch):
    logged = []
    monkeypatch.setattr(
        'hybridcls.evaluation.knn_accuracy.print_log', lambda text, **kwargs: logged.append((text, kwargs))
    )
    metric = KNNAccuracy(k=20)
    for _ in range(2):
        metric.set_bank(torch.eye(3), torch.tensor([0, 1, 2]))
        assert evaluated(metric, torch.eye(3), torch.tensor([0, 1, 2])) == {'knn/top1': 100.0}
    assert len(logged) == 1
    assert 'k=20 exceeds the 3 candidates' in logged[0][0]
    assert logged[0][1]['level'] == logging.WARNING


def test_padded_samples_are_dropped():
    metric = KNNAccuracy(k=1)
    metric.set_bank(torch.eye(2), torch.tensor([0, 1]))
    metric.process(None, as_dicts(torch.eye(2)[[0, 1, 0]], torch.tensor([0, 1, 1])))
    assert metric.evaluate(size=2) == {'knn/top1': 100.0}


def test_a_small_temperature_and_half_precision_stay_finite():
    rows, labels = clouds(30, spread=0.01)
    metric = KNNAccuracy(k=5, temperature=1e-4)
    metric.set_bank(rows.half(), labels)
    assert evaluated(metric, rows.bfloat16(), labels) == {'knn/top1': 100.0}


@pytest.mark.parametrize('with_bank', [True, False])
def test_diverged_model_scores_zero(with_bank):
    rows, labels = clouds(30)
    metric = KNNAccuracy(k=5)
    if with_bank:
        metric.set_bank(rows, labels)
    assert evaluated(metric, rows * torch.nan, labels) == {'knn/top1': 0.0}


def test_non_finite_row_is_never_a_neighbour():
    bank = torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [torch.inf, 0.0]])
    metric = KNNAccuracy(k=1)
    metric.set_bank(bank, torch.tensor([0, 1, 1]))
    assert evaluated(metric, torch.tensor([[1.0, 0.1]]), torch.tensor([0])) == {'knn/top1': 100.0}


def test_one_image_and_no_image():
    assert evaluated(KNNAccuracy(k=1), torch.ones(1, 2), torch.tensor([0])) == {}
    assert KNNAccuracy().evaluate(size=0) == {}


def test_results_do_not_hold_the_batch():
    metric = KNNAccuracy()
    metric.process(None, as_dicts(torch.randn(256, 64), torch.zeros(256, dtype=torch.int64)))
    assert len(pickle.dumps(metric.results[0])) < 1000


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (dict(gt_label=torch.tensor([1])), '^KNNAccuracy: expected an embedding for sample [?], got gt_label'),
        (dict(embedding=torch.ones(2)), '^KNNAccuracy: expected a gt_label .*, got embedding'),
        (dict(embedding=torch.ones(2), gt_label=torch.tensor([1, 2])), '^KNNAccuracy: expected one gt_label .*, got 2'),
    ],
)
def test_missing_fields_are_named(sample, message):
    with pytest.raises(MissingFieldError, match=message):
        KNNAccuracy().process(None, [sample])


@pytest.mark.parametrize('wrong', [dict(k=0), dict(vote='cosine'), dict(temperature=0), dict(topk=(1, 0))])
def test_invalid_arguments_are_errors(wrong):
    with pytest.raises(ValueError, match=f'KNNAccuracy: expected {next(iter(wrong))} '):
        KNNAccuracy(**wrong)


def test_invalid_bank_is_an_error():
    metric = KNNAccuracy()
    with pytest.raises(ValueError, match=r'expected embeddings \(M, D\)'):
        metric.set_bank(torch.ones(3, 2), torch.tensor([1, 2]))
    metric.set_bank(torch.ones(3, 2), torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match='a bank of 5-dimensional embeddings, as the evaluated ones, got 2'):
        evaluated(metric, torch.ones(2, 5), torch.tensor([1, 2]))


@pytest.mark.parametrize('with_bank', [True, False])
def test_images_marked_as_unknown_are_wrong(with_bank):
    rows = torch.eye(3)[[0, 0, 1, 1]]
    metric = KNNAccuracy(k=1)
    if with_bank:
        metric.set_bank(rows, torch.tensor([4, 4, -1, -1]))
    assert evaluated(metric, rows, torch.tensor([4, 4, -1, -1])) == {'knn/top1': 50.0}
