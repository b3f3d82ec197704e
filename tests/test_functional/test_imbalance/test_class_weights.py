"""Weights of classes against scikit-learn, and against the authors' formula written out."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from hybridcls.functional.imbalance import balanced_class_weights, effective_class_weights

COUNTS = [2, 3, 1, 700, 41]


def test_balanced_is_scikit_learns():
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    expected = compute_class_weight('balanced', classes=np.arange(len(COUNTS)), y=labels)
    torch.testing.assert_close(balanced_class_weights(torch.tensor(COUNTS)), torch.from_numpy(expected))


@pytest.mark.parametrize('beta', [0.9, 0.999, 0.9999])
def test_effective_numbers_are_the_authors(beta):
    weights = (1.0 - beta) / (1.0 - np.power(beta, COUNTS))
    weights = weights / np.sum(weights) * len(COUNTS)
    torch.testing.assert_close(effective_class_weights(torch.tensor(COUNTS), beta), torch.from_numpy(weights))


def test_beta_goes_from_equal_weights_to_inverse_frequencies():
    counts = torch.tensor(COUNTS)
    torch.testing.assert_close(effective_class_weights(counts, 0), torch.ones(5, dtype=torch.float64))
    inverse = 1 / counts.double()
    torch.testing.assert_close(effective_class_weights(counts, 1 - 1e-13), inverse / inverse.mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize('rule', [balanced_class_weights, effective_class_weights])
def test_a_class_without_images_changes_nothing_for_the_others(rule):
    weights = rule(torch.tensor([0, 5, 0, 20]))
    assert weights[[0, 2]].tolist() == [0, 0]
    torch.testing.assert_close(weights[[1, 3]], rule(torch.tensor([5, 20])))


@pytest.mark.parametrize('counts', [torch.tensor([[1]]), torch.tensor([1, -1]), torch.tensor([0, 0])])
def test_what_are_no_counts_is_named(counts):
    with pytest.raises(ValueError, match='balanced_class_weights: expected counts >= 0 of the classes, not all 0'):
        balanced_class_weights(counts)


def test_beta_is_below_one():
    with pytest.raises(ValueError, match=r'effective_class_weights: expected beta in \[0, 1\), got 1'):
        effective_class_weights(torch.tensor(COUNTS), 1)
