"""Searches of an index against loops in float64, and against the metrics."""

from functools import cache

import numpy as np
import pytest
import torch

from hybridcls.apis import index_search as module
from hybridcls.apis.embedding_index import EmbeddingIndex
from hybridcls.apis.index_search import IndexSearch
from hybridcls.evaluation import RetrievalMetric

WIDTH = 6


def write(path, number, seed, classes=5, unlabelled=0.2, about=None, duplicates=True):
    """An index with ties (vectors that occur several times), images without label and one vector that is not finite."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((number, WIDTH)).astype(np.float32) * draw.uniform(0.5, 3, (number, 1))
    if duplicates:
        vectors[number // 2 :] = vectors[draw.integers(0, number // 2, number - number // 2)]
    labels = [f'class {label}' for label in draw.integers(0, classes, number)]
    labels = ['' if one < unlabelled else label for one, label in zip(draw.random(number), labels, strict=True)]
    EmbeddingIndex.write(
        path, [f'{seed}/{row}.jpg' for row in range(number)], vectors.astype(np.float32), labels, about
    )
    return EmbeddingIndex(path)


def unit(vector):
    return unit_of(vector.astype(float).tobytes())


@cache  # each query meets all vectors
def unit_of(numbers):
    vector = np.frombuffer(numbers)
    return vector / np.linalg.norm(vector)


def expected_matches(index, query, own, k, pool, distractors=None):
    """Score (rounded to float32), then path: images or classes, one at a time."""
    images = [(row, path, label, vector) for row, (path, label, vector) in
              enumerate(zip(index.paths, index.labels, index.vectors, strict=True)) if row != own]  # fmt: skip
    if distractors is not None:
        images += [(len(index) + row, path, '', vector) for row, (path, vector) in
                   enumerate(zip(distractors.paths, distractors.vectors, strict=True))]  # fmt: skip
    alone = [(np.float32(unit(query) @ unit(vector)), row, path, label) for row, path, label, vector in images]
    found = [one for one in alone if pool == 'none' or not one[3]]
    for name in sorted({label for _, _, label, _ in images if label} if pool != 'none' else ()):
        of_class = [one for one in alone if one[3] == name]
        score, row, path, _ = min(of_class, key=lambda one: (-one[0], one[1]))
        members = np.stack([unit(vector) for _, _, label, vector in images if label == name])
        raw = np.stack([vector.astype(float) for _, _, label, vector in images if label == name])
        if pool == 'mean':
            score = (members @ unit(query)).mean()
        elif pool == 'prototype':
            score = unit(query) @ unit(members.mean(0))
        elif pool == 'quality':
            score = unit(query) @ unit(raw.mean(0))
        # Images first among equal scores, as their entries come before those of classes.
        found.append((np.float32(score), row if pool == 'max' else 10**6, path, name))
    return [(path, label, score) for score, _, path, label in sorted(found, key=lambda one: (-one[0], one[1]))[:k]]


@pytest.mark.parametrize('pool', ['none', 'max', 'mean', 'prototype', 'quality'])
@pytest.mark.parametrize('more', [False, True])
@pytest.mark.parametrize('engine', ['exact', 'faiss'])
def test_answers_are_those_of_a_loop(tmp_path, monkeypatch, pool, more, engine):
    if engine == 'faiss':
        pytest.importorskip('faiss')
    monkeypatch.setattr(module, '_LIST_NUMBERS', 200)  # queries in many parts
    index = write(tmp_path / 'a.npz', 220, 1)
    distractors = write(tmp_path / 'b.npz', 190, 2) if more else None
    search = IndexSearch(index, 4, pool, distractors, engine=engine)
    queries = np.random.default_rng(3).standard_normal((12, WIDTH)).astype(np.float32)
    queries = np.concatenate([queries, index.vectors[:8], index.vectors[150:155]])
    own = [-1] * 16 + [4, 5, 6, 7, 150, 151, 152, 153, 154]  # the first four images of the index ask as others
    places = ['elsewhere' if row < 0 else index.absolute_paths()[row] for row in own]
    found = search(queries, places)
    for query, row, matches in zip(queries, own, found, strict=True):
        expected = expected_matches(index, query, row, 4, pool, distractors)
        assert [(match.path, match.label) for match in matches] == [one[:2] for one in expected]
        np.testing.assert_allclose([match.similarity for match in matches], [one[2] for one in expected], rtol=2e-7)
        assert all(match.distractor == match.path.startswith('2/') for match in matches)


@pytest.mark.parametrize('pool', ['max', 'mean', 'prototype', 'quality'])
def test_a_class_of_the_query_alone_is_no_match(tmp_path, pool):
    paths = ['a.jpg', 'b.jpg', 'c.jpg']
    EmbeddingIndex.write(tmp_path / 'i.npz', paths, np.eye(3, dtype=np.float32), ['one', 'two', 'two'])
    index = EmbeddingIndex(tmp_path / 'i.npz')
    found = IndexSearch(index, 5, pool)(np.eye(3, dtype=np.float32)[:1], index.absolute_paths()[:1])
    assert [match.label for match in found[0]] == ['two']


def test_classes_of_very_different_sizes(tmp_path):
    """The list of images grows until it has k classes."""
    draw = np.random.default_rng(4)
    vectors = np.concatenate([draw.normal((5, 0, 0), 0.1, (900, 3)), draw.normal((0, 5, 0), 0.1, (3, 3)),
                              draw.normal((0, 0, 5), 0.1, (3, 3))]).astype(np.float32)  # fmt: skip
    labels = ['large'] * 900 + ['small'] * 3 + ['third'] * 3
    EmbeddingIndex.write(tmp_path / 'i.npz', [f'{row}' for row in range(906)], vectors, labels)
    found = IndexSearch(EmbeddingIndex(tmp_path / 'i.npz'), 3, 'max')(np.float32([[5, 1, 0], [0, 1, 5]]))
    assert [[match.label for match in matches] for matches in found] == [
        ['large', 'small', 'third'], ['third', 'small', 'large'],
    ]  # fmt: skip


def test_images_without_label_are_classes_behind_a_large_one(tmp_path):
    draw = np.random.default_rng(4)
    vectors = np.concatenate([draw.normal((5, 0, 0), 0.1, (300, 3)), draw.normal((0, 5, 0), 0.1, (6, 3))])
    EmbeddingIndex.write(
        tmp_path / 'i.npz', [f'{row}' for row in range(306)], np.float32(vectors), ['large'] * 300 + [''] * 6
    )
    found = IndexSearch(EmbeddingIndex(tmp_path / 'i.npz'), 5, 'max')(np.float32([[5, 1, 0]]))
    assert [match.label for match in found[0]] == ['large', '', '', '', '']


def test_scores_are_those_of_the_retrieval_metric(tmp_path):
    index = write(tmp_path / 'a.npz', 300, 5, classes=40, unlabelled=0.05)
    search = IndexSearch(index, 8)
    for rows in (slice(0, 170), slice(170, 300)):
        search(index.vectors[rows], index.absolute_paths()[rows], index.labels[rows].tolist())
    names = sorted({*index.labels.tolist()} - {''})
    metric = RetrievalMetric(topk=(1, 5, 8), device='cpu')
    metric.process(None, [
        dict(embedding=torch.tensor(vector), gt_label=torch.tensor([names.index(label) if label else -1]))
        for vector, label in zip(index.vectors, index.labels, strict=True)
    ])  # fmt: skip
    expected = metric.evaluate(size=300)
    scores = search.scores.as_dict()
    for name in ('recall@1', 'recall@5', 'recall@8', 'precision@r', 'map@r'):
        assert scores[name] == pytest.approx(expected[f'retrieval/{name}'], abs=1e-9)
    assert scores['queries'] + scores['without_match'] == (index.labels != '').sum()


def test_nothing_below_the_threshold_is_a_match(tmp_path):
    index = write(tmp_path / 'a.npz', 200, 6, about=dict(threshold=0.8))
    queries = np.random.default_rng(7).standard_normal((10, WIDTH)).astype(np.float32)
    everything = IndexSearch(index, 3, threshold=-1.0)(queries)
    chosen = IndexSearch(index, 3)(queries)
    assert chosen == [[match for match in matches if match.similarity >= 0.8] for matches in everything]
    assert 0 < sum(map(len, chosen)) < 30
    assert any(not matches for matches in IndexSearch(index, 3, threshold=0.97)(queries))


def test_vectors_that_are_not_finite_match_nothing(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = np.nan
    EmbeddingIndex.write(tmp_path / 'i.npz', list('abcd'), vectors)
    search = IndexSearch(EmbeddingIndex(tmp_path / 'i.npz'), 4)
    found = search(np.float32([[1, 1, 1, 1], [np.nan, 0, 0, 0]]))
    assert [match.path for match in found[0]] == ['a', 'c', 'd']
    assert found[1] == []


def test_bad_input_gets_a_sentence(tmp_path):
    index = write(tmp_path / 'a.npz', 20, 8, about=dict(digest='abc'))
    with pytest.raises(ValueError, match=r'expected queries \(N, 6\), as .*a.npz has them, got \(2, 5\)'):
        IndexSearch(index)(np.ones((2, 5)))
    with pytest.raises(ValueError, match='expected embeddings of one model, but the weights differ'):
        IndexSearch(index, distractors=write(tmp_path / 'b.npz', 5, 9, about=dict(digest='abd')))
    EmbeddingIndex.write(tmp_path / 'empty.npz', [], np.empty((0, WIDTH), np.float32))
    with pytest.raises(ValueError, match=r'expected an index with images, and .*empty.npz is empty'):
        IndexSearch(EmbeddingIndex(tmp_path / 'empty.npz'))
    EmbeddingIndex.write(tmp_path / 'plain.npz', ['a'], np.ones((1, WIDTH), np.float32))
    with pytest.raises(ValueError, match=r"expected labels in .*plain.npz for pool='max', got none"):
        IndexSearch(EmbeddingIndex(tmp_path / 'plain.npz'), pool='max')
    assert IndexSearch(index)(np.empty((0, WIDTH))) == []
