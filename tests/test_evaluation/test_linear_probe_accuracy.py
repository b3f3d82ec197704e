"""LinearProbeAccuracy against scikit-learn's logistic regression."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hybridcls.evaluation import LinearProbeAccuracy


def clouds(count, seed=0, classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    middles = torch.randn(classes, 6, generator=torch.Generator().manual_seed(9))
    return middles[labels] + torch.randn(count, 6, generator=generator), labels


def evaluated(rows, labels, bank=None, size=None, **keys):
    metric = LinearProbeAccuracy(**keys)
    if bank is not None:
        metric.set_bank(*bank)
    metric.process(None, [dict(embedding=row, gt_label=label.view(1)) for row, label in zip(rows, labels, strict=True)])
    return metric.evaluate(len(labels) if size is None else size), metric


def test_equals_scikit_learn():
    rows, labels = clouds(200)
    others, their_labels = clouds(150, seed=1)
    mean, scale = rows.mean(0), (rows - rows.mean(0)).square().mean().sqrt()
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit((rows - mean) / scale, labels)
    expected = 100 * model.score((others - mean) / scale, their_labels)
    result, _ = evaluated(others, their_labels, (rows, 3 * labels), inverse_penalty=1.0)  # other numbers than these
    assert result['linear/top1'] < 50
    result, metric = evaluated(others, 3 * their_labels, (rows, 3 * labels), inverse_penalty=1.0, topk=(1, 4))
    assert result == {'linear/top1': pytest.approx(expected), 'linear/top4': 100}
    assert 40 < expected < 95
    assert metric.bank is None


def test_what_the_bank_does_not_have_is_wrong():
    rows, labels = clouds(100)
    bank = (rows, labels.masked_fill(labels == 3, -1))
    result, _ = evaluated(rows[labels >= 2], labels[labels >= 2], bank, topk=3, inverse_penalty=1.0)
    assert result['linear/top3'] == pytest.approx(100 * (labels == 2).sum().item() / (labels >= 2).sum().item())
    rows[0] = torch.nan
    assert evaluated(rows[:1], labels[:1], bank, topk=3)[0] == {'linear/top3': 0}


def test_without_a_bank_or_a_second_class_there_is_a_reason():
    rows, labels = clouds(20)
    result, metric = evaluated(rows, labels)
    assert result == {}
    assert metric.no_result == 'There is no bank to fit a classifier to: add EmbeddingBankHook.'
    result, metric = evaluated(rows, labels, (rows, torch.zeros_like(labels)))
    assert metric.no_result == 'Expected a bank of at least two classes, got 1.'
    with pytest.raises(ValueError, match=r'expected a bank of 6-dimensional embeddings, as the evaluated ones, got 5'):
        evaluated(rows, labels, (rows[:, :5], labels))


def test_padded_images_are_dropped_and_intervals_given():
    rows, labels = clouds(60)
    bank = clouds(100, seed=1)
    more = torch.cat([rows, rows[:9]]), torch.cat([labels, labels[:9]])
    keys = dict(inverse_penalty=1.0, confidence=0.95, normalize=True)
    result, _ = evaluated(rows, labels, bank, **keys)
    assert evaluated(*more, bank, size=60, **keys)[0] == result
    assert result['linear/top1_low'] < result['linear/top1'] < result['linear/top1_high']
