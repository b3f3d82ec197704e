import pytest
import torch
from sklearn.metrics import average_precision_score

from hybridcls.functional import average_precision, map_at_r, precision_at_r, recall_at, reciprocal_rank


def test_by_plain_loops():
    generator = torch.Generator().manual_seed(0)
    hits = torch.rand(40, 12, generator=generator) < 0.4
    matches = torch.randint(1, 13, (40,), generator=generator)
    for row in range(40):
        own, count = hits[row].tolist(), matches[row].item()
        precisions = [sum(own[:rank]) / rank for rank in range(1, count + 1) if own[rank - 1]]
        assert map_at_r(hits, matches)[row].item() == pytest.approx(sum(precisions) / count)
        assert precision_at_r(hits, matches)[row].item() == pytest.approx(sum(own[:count]) / count)
        for k in (1, 3, 12):
            assert recall_at(hits, k)[row].item() is any(own[:k])


def test_whole_lists_by_scikit_learn():
    hits = torch.rand(40, 12, generator=torch.Generator().manual_seed(1)) < 0.3
    hits[:, -1] = True
    for row, precision, rank in zip(hits, average_precision(hits, hits.sum(1)), reciprocal_rank(hits), strict=True):
        assert precision.item() == pytest.approx(average_precision_score(row, range(12, 0, -1)))
        assert rank.item() == pytest.approx(1 / (1 + row.tolist().index(True)))
    assert reciprocal_rank(torch.zeros(1, 3, dtype=torch.bool)).item() == 0
    assert average_precision(torch.tensor([[True, False]]), torch.tensor([4])).item() == 0.25  # three are not listed
