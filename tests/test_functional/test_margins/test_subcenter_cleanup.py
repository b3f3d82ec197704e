"""Dominant sub-centers and angles, against loops over classes as the authors' code drops images."""

import math

import pytest
import torch

from hybridcls.functional.margins.subcenter_cleanup import subcenter_cleanup


def test_equals_loops_over_classes():
    generator = torch.Generator().manual_seed(0)
    embeddings, weights = torch.randn(9000, 6, generator=generator), torch.randn(5, 3, 6, generator=generator)
    labels = torch.randint(5, (9000,), generator=generator)
    found = subcenter_cleanup(embeddings, labels, weights)
    for number in range(5):
        own = embeddings[labels == number].double()
        cosines = torch.nn.functional.cosine_similarity(own.unsqueeze(1), weights[number].double(), dim=2)
        votes = [(cosines.argmax(1) == center).sum().item() for center in range(3)]
        best = votes.index(max(votes))
        assert found.dominant[number] == best
        expected = torch.tensor([math.degrees(math.acos(cosine)) for cosine in cosines[:, best].tolist()])
        torch.testing.assert_close(found.angles[labels == number], expected.double(), rtol=0, atol=1e-5)


def test_edges():
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [1.0, 0.0]]])
    rows = torch.tensor([[torch.nan, 1.0], [0.0, 5.0], [0.0, 1.0], [1.0, 0.0]])
    found = subcenter_cleanup(rows, torch.zeros(4, dtype=torch.int64), weights)
    assert found.dominant.tolist() == [1, 0]  # a broken row has no vote; a class without images has its first
    assert found.angles[0].isnan()
    assert found.angles[1:].tolist() == pytest.approx([0, 0, 90])
    with pytest.raises(ValueError, match=r'^subcenter_cleanup: expected embeddings \(N, D\)'):
        subcenter_cleanup(rows, torch.zeros(4, dtype=torch.int64), weights[:, 0])
