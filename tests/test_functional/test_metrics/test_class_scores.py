"""Ranks and counts by class, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from hybridcls.functional.metrics import class_counts, target_ranks


def test_ranks_give_scikit_learns_top_k_accuracy():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(200, 6, generator=generator), torch.randint(6, (200,), generator=generator)
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(labels, scores, k=k)
        assert (target_ranks(scores, labels) < k).double().mean().item() == pytest.approx(expected)


def test_ranks_of_ties_nan_and_classes_that_do_not_exist():
    tied = torch.tensor([[0.5, 0.5, 0.0]] * 3)
    assert target_ranks(tied, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    most = torch.iinfo(torch.int64).max
    assert target_ranks(tied, torch.tensor([-1, 3, 0])).tolist() == [most, most, 0]
    tied[1, 2] = torch.nan
    assert target_ranks(tied, torch.tensor([0, 0, 0])).tolist() == [0, most, 0]


def test_counts_and_weights_equal_those_of_repeated_images():
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(4, (2, 60), generator=generator)
    times = torch.randint(3, (5, 60), generator=generator)
    times[0, labels == 3] = 0  # a resample without images of a class
    counts = class_counts(labels, predicted, 4, times.double())
    for row, one in enumerate(times):
        true, guessed = labels.repeat_interleave(one).numpy(), predicted.repeat_interleave(one).numpy()
        matrix = confusion_matrix(true, guessed, labels=range(4))
        np.testing.assert_array_equal(counts.hits[row], matrix.diagonal())
        np.testing.assert_array_equal(counts.predictions[row], matrix.sum(0))
        present = sorted({*true.tolist()})
        expected = precision_recall_fscore_support(true, guessed, labels=present, average='macro', zero_division=0)
        assert counts.macro()[row].tolist() == pytest.approx(expected[:3])
