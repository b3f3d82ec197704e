import pytest
import torch

from hybridcls.functional import map_at_r, precision_at_r, recall_at


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
