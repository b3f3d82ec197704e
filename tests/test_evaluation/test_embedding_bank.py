"""A bank is checked, cleaned, and dropped after use."""

import pytest
import torch
from mmengine.evaluator import BaseMetric

from hybridcls.evaluation.embedding_bank import TakesBank, bank_classes


class Counts(TakesBank, BaseMetric):
    """Counts the rows of its bank."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(rows=len(self.bank[0]))


def test_a_bank_is_cleaned_and_dropped_after_use():
    metric = Counts()
    rows = torch.eye(3)
    rows[1, 1] = torch.nan
    metric.set_bank(rows, torch.tensor([4, 5, -1]))
    assert metric.bank[1].tolist() == [4, -1]
    assert bank_classes(metric.bank[1]).tolist() == [4]
    metric.process(None, [{}])
    assert metric.evaluate(1) == {'rows': 2}
    assert metric.bank is None


def test_shapes_are_checked():
    metric = Counts()
    for rows, count in ((torch.eye(3), 2), (torch.ones(3), 3), (torch.ones(0, 2), 0)):
        with pytest.raises(ValueError, match=r'^Counts.set_bank: expected embeddings \(M, D\) and labels \(M,\)'):
            metric.set_bank(rows, torch.arange(count))
    metric.set_bank(torch.eye(3), torch.arange(3))
    with pytest.raises(ValueError, match=r'^Counts: expected a bank of 4-dimensional .* got 3'):
        metric.check_width(torch.ones(1, 4))
