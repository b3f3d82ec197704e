"""An index says what it is of, is added to and removed from, and refuses what is of another model."""

import os

import numpy as np
import pytest

from hybridcls.apis.embedding_index import EmbeddingIndex, absolute, check_same_model
from hybridcls.apis.index_file import IndexPart

VECTORS = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EmbeddingIndex.write('a.npz', ['a', 'b/c', '/d', 'https://x/e'], VECTORS, ['', 'cat', 'cat', ''], dict(digest='1'))
    return EmbeddingIndex(tmp_path / 'a.npz')


def test_places_start_from_the_folder_of_the_index(index, tmp_path, monkeypatch):
    monkeypatch.chdir('/')
    assert index.absolute_paths() == [str(tmp_path / 'a'), str(tmp_path / 'b/c'), '/d', 'https://x/e']
    assert [index.located(row) for row in (1, 2)] == [str(tmp_path / 'b/c'), '/d']
    assert absolute('../q', str(tmp_path)) == os.path.join(os.path.dirname(tmp_path), 'q')


def test_rows_are_added_and_removed_while_the_old_ones_are_open(index):
    index.append([IndexPart(['f'], ['dog'], np.ones(1, np.float32), np.ones((1, 2), np.float32))], 1)
    assert len(index) == 4
    longer = EmbeddingIndex(index.path)
    assert (longer.paths[4], longer.labels[4], longer.vectors[4].tolist()) == ('f', 'dog', [1, 1])
    longer.remove([0, 2])
    shorter = EmbeddingIndex(index.path)
    assert shorter.paths.tolist() == ['b/c', 'https://x/e', 'f']
    np.testing.assert_array_equal(shorter.vectors[:2], VECTORS[[1, 3]])
    np.testing.assert_array_equal(index.vectors, VECTORS)
    assert shorter.about == index.about
    with pytest.raises(ValueError, match=r'these are all the images of .* \(3\)'):
        shorter.remove(range(3))


@pytest.mark.parametrize('arguments', [(['a', 'a'], np.ones((2, 2))), (['a'], np.ones((2, 2))), (['a'], np.ones(1))])
def test_rows_that_do_not_fit_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match='expected N different paths'):
        EmbeddingIndex.write(tmp_path / 'b.npz', *arguments)


def test_an_index_of_a_later_version_is_refused(tmp_path):
    EmbeddingIndex.write(tmp_path / 'b.npz', ['a'], np.ones((1, 2)), about=dict(version=2))
    with pytest.raises(ValueError, match='expected version 1 of an index, got 2'):
        EmbeddingIndex(tmp_path / 'b.npz')


def test_what_is_known_of_both_must_be_equal():
    check_same_model('search', dict(digest='1', width=2), 'a', dict(width=2), 'b')
    with pytest.raises(ValueError, match=r'but the preprocessing, the precision \(--amp\) differ: a is of x .*; b is'):
        check_same_model(
            'search', dict(preprocessing=1, amp=True, checkpoint='x'), 'a', dict(preprocessing=2, amp=False), 'b'
        )
