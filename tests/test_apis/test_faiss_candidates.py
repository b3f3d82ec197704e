"""faiss' candidates: similarities of numpy, and no vector that is not finite."""

import numpy as np
import pytest
import torch

pytest.importorskip('faiss')

from hybridcls.apis.faiss_candidates import FaissCandidates


def test_positions_are_those_of_the_bank(monkeypatch):
    monkeypatch.setattr('hybridcls.apis.faiss_candidates._ROWS_AT_ONCE', 16)
    draw = np.random.default_rng(0)
    bank = draw.standard_normal((50, 5))
    bank[[3, 20]] = np.nan
    queries = draw.standard_normal((4, 5))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    similarity, index = FaissCandidates(torch.tensor(bank))(torch.tensor(queries).float(), 49)
    cosine = queries @ (bank / np.linalg.norm(bank, axis=1, keepdims=True)).T
    expected = np.argsort(-np.where(np.isnan(cosine), -np.inf, cosine), axis=1)[:, :48]
    assert index[:, :48].tolist() == expected.tolist()
    assert index[:, 48].tolist() == [-1] * 4
    np.testing.assert_allclose(similarity[:, :48], np.take_along_axis(cosine, expected, 1), atol=1e-6)
