"""Sets of matches hold the right one as often as is stated, over resampled queries of an index."""

import numpy as np
import pytest

from hybridcls.apis.embedding_index import EmbeddingIndex
from hybridcls.apis.index_search import IndexSearch
from hybridcls.apis.match_calibration import calibrate_matches, write_threshold


def drawn(count, classes=12, spread=0.9, seed=0, first=0):
    """Vectors around a prototype a class."""
    prototypes = np.random.default_rng(9).normal(size=(40, 16))
    rng = np.random.default_rng(seed)
    labels = rng.integers(first, first + classes, count)
    return (prototypes[labels] + spread * rng.normal(size=(count, 16))).astype(np.float32), [
        f'c{one}' for one in labels
    ]


def index_of(path, vectors, labels, name='g'):
    EmbeddingIndex.write(path, [f'{name}{number}.jpg' for number in range(len(vectors))], vectors, labels)
    return EmbeddingIndex(path)


@pytest.fixture
def gallery(tmp_path):
    return index_of(tmp_path / 'gallery.npz', *drawn(60))


def cosines(queries, gallery):
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries.astype(float), gallery)]
    return unit[0] @ unit[1].T


def test_the_threshold_is_the_one_of_plain_cosines(gallery, tmp_path):
    vectors, labels = drawn(50, seed=1)
    queries = index_of(tmp_path / 'q.npz', vectors, labels, 'q')
    same = np.array(labels)[:, None] == np.array(gallery.labels)[None]
    best = np.sort(np.where(same, cosines(vectors, gallery.vectors), -2).max(1))
    found = calibrate_matches(gallery, queries, 0.2)
    assert found.threshold == pytest.approx(best[int(0.2 * 51) - 1], abs=1e-6)
    assert calibrate_matches(gallery, queries, 0.2, 'max').threshold == found.threshold
    prototypes = np.stack([
        (gallery.vectors / gallery.norms[:, None])[gallery.labels == name].mean(0) for name in sorted({*labels})
    ])  # fmt: skip
    own = np.array([sorted({*labels}).index(label) for label in labels])
    best = np.sort(cosines(vectors, prototypes)[np.arange(50), own])
    assert calibrate_matches(gallery, queries, 0.2, 'prototype').threshold == pytest.approx(best[9], abs=1e-6)


def test_sets_hold_the_right_match_as_often_as_stated(gallery, tmp_path):
    vectors, labels = drawn(4000, seed=2)
    same = np.array(labels)[:, None] == np.array(gallery.labels)[None]
    best = np.where(same, cosines(vectors, gallery.vectors), -2).max(1)
    rng, held = np.random.default_rng(0), []
    for number in range(40):
        rows = rng.integers(0, 4000, 30)
        queries = index_of(tmp_path / f'{number}.npz', vectors[rows], [labels[row] for row in rows], 'q')
        held.append((best >= calibrate_matches(gallery, queries, 0.2).threshold - 1e-6).mean())
    assert 0.8 - 2.6 * np.std(held) / np.sqrt(40) < np.mean(held) < 0.9


def test_queries_of_other_classes_are_counted_and_rejected(gallery, tmp_path):
    known, unknown = drawn(40, seed=3), drawn(30, seed=4, first=20)
    queries = index_of(tmp_path / 'q.npz', np.concatenate([known[0], unknown[0]]), known[1] + unknown[1], 'q')
    found = calibrate_matches(gallery, queries, 0.1)
    best = cosines(unknown[0], gallery.vectors).max(1)
    assert (found.queries, found.without) == (40, 30)
    assert found.rejected == pytest.approx((best < found.threshold).mean())
    write_threshold(gallery, found)
    search = IndexSearch(EmbeddingIndex(gallery.path), k=60)
    assert search.threshold == found.threshold
    assert [not one for one in search(unknown[0])] == (best < found.threshold - 1e-7).tolist()
    assert IndexSearch(EmbeddingIndex(gallery.path), pool='mean').threshold is None
    assert (EmbeddingIndex(gallery.path).vectors == gallery.vectors).all()


def test_images_of_the_index_are_compared_with_the_others(gallery):
    found = calibrate_matches(gallery, gallery, 0.1)
    assert found.threshold < 0.999
    assert found.queries == 60


def test_bad_input_is_a_sentence(gallery, tmp_path):
    vectors, labels = drawn(10, seed=5)
    few = calibrate_matches(gallery, index_of(tmp_path / 'q.npz', vectors, labels), 0.05)
    assert (few.threshold, few.queries, few.missing) == (None, 10, 9)
    with pytest.raises(ValueError, match=r'expected labels in .*bare.npz, got none'):
        calibrate_matches(gallery, index_of(tmp_path / 'bare.npz', vectors, [''] * 10), 0.1)
    with pytest.raises(ValueError, match='got 10 of others in'):
        calibrate_matches(gallery, index_of(tmp_path / 'o.npz', vectors, ['x'] * 10), 0.1)
    with pytest.raises(ValueError, match='expected embeddings of one model, but the width'):
        calibrate_matches(gallery, index_of(tmp_path / 'w.npz', vectors[:, :8], labels), 0.1)


def test_a_match_that_is_never_found_counts_as_missed(gallery, tmp_path):
    """Embeddings that are not finite: their queries have a match in the index."""
    vectors, labels = drawn(40, seed=5)
    plain = calibrate_matches(gallery, index_of(tmp_path / 'plain.npz', vectors, labels, 'q'), 0.2)
    vectors[:4] = np.nan
    found = calibrate_matches(gallery, index_of(tmp_path / 'q.npz', vectors, labels, 'q'), 0.2)
    assert (found.queries, found.without) == (40, 0)
    assert found.threshold < plain.threshold
    missed = sum(not matches for matches in IndexSearch(gallery, 60, threshold=found.threshold)(vectors))
    assert missed <= 8
