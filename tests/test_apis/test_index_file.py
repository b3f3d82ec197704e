"""Files of embeddings: written and mapped, and others that hold vectors; damaged ones get a sentence."""

import zipfile

import numpy as np
import pytest

from hybridcls.apis import index_file, parquet_texts
from hybridcls.apis.index_file import FORMATS, IndexPart, read_index_file, write_index_file

VECTORS = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
PATHS = [f'photos/ü {row}.jpg' for row in range(50)]
LABELS = ['' if row % 3 else 'cat' for row in range(50)]
NORMS = np.linalg.norm(VECTORS, axis=1)


def parts(*sizes):
    begin = 0
    for size in sizes:
        rows = slice(begin, begin + size)
        begin += size
        yield IndexPart(PATHS[rows], LABELS[rows], NORMS[rows], VECTORS[rows])


@pytest.mark.parametrize('suffix', FORMATS)
def test_what_is_written_in_parts_is_read_mapped(tmp_path, suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    path = tmp_path / f'index{suffix}'
    write_index_file(path, dict(width=6, threshold=0.5), parts(20, 30), 50)
    rows, about = read_index_file('search', path)
    assert (rows.paths.tolist(), rows.labels.tolist()) == (PATHS, LABELS)
    np.testing.assert_array_equal(rows.norms, NORMS)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert isinstance(rows.vectors, np.memmap)
    assert rows.vectors.ctypes.data % 4 == 0
    assert about == dict(width=6, threshold=0.5)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_numpy_reads_it(tmp_path):
    write_index_file(tmp_path / 'a.npz', dict(width=6), parts(50), 50)
    with np.load(tmp_path / 'a.npz') as file:
        np.testing.assert_array_equal(file['vector'], VECTORS)
        assert file['path'].tolist() == PATHS
    with zipfile.ZipFile(tmp_path / 'a.npz') as archive:
        assert archive.testzip() is None


def test_pyarrow_reads_it(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    write_index_file(tmp_path / 'a.parquet', dict(width=6), parts(10, 40), 50)
    table = parquet.read_table(tmp_path / 'a.parquet')
    assert table.column_names == ['path', 'label', 'norm', 'vector']
    np.testing.assert_array_equal(np.stack(table['vector'].to_numpy()), VECTORS)


@pytest.mark.parametrize(
    ('name', 'save'),
    [
        ('a.npz', lambda path: np.savez_compressed(path, vector=VECTORS)),
        ('a.npz', lambda path: np.savez(path, embeddings=VECTORS.astype(np.float64))),
        ('a.npy', lambda path: np.save(path, VECTORS)),
        ('a.npy', lambda path: np.save(path, VECTORS.astype(np.float64))),
    ],
)
def test_other_files_with_vectors(tmp_path, monkeypatch, name, save):
    monkeypatch.setattr(index_file, '_ROWS_AT_ONCE', 7)
    save(tmp_path / name)
    rows, about = read_index_file('search', tmp_path / name)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    np.testing.assert_allclose(rows.norms, NORMS, rtol=1e-6)
    assert rows.paths[3].endswith(f'{name}[3]')
    assert about == {}


@pytest.mark.parametrize('suffix', FORMATS)
def test_names_that_are_not_utf8_are_kept(tmp_path, suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    paths, labels = [*PATHS[:40], 'photos/\udcff.jpg', *PATHS[41:]], [*LABELS[:49], 'k\udcfc']
    rows = [IndexPart(paths[of], labels[of], NORMS[of], VECTORS[of]) for of in map(slice, (0, 30, 45), (30, 45, 50))]
    write_index_file(tmp_path / f'a{suffix}', dict(width=6, threshold=0.5), rows, 50)
    read, about = read_index_file('search', tmp_path / f'a{suffix}')
    assert (read.paths.tolist(), read.labels.tolist()) == (paths, labels)
    np.testing.assert_array_equal(read.vectors, VECTORS)
    assert about == dict(width=6, threshold=0.5)
    assert [file.name for file in tmp_path.iterdir()] == [f'a{suffix}']


def test_in_parquet_such_a_name_is_its_bytes(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    rows = [IndexPart(['ü.jpg', '\udcff.jpg'], ['cat', ''], NORMS[:2], VECTORS[:2])]
    write_index_file(tmp_path / 'a.parquet', dict(width=6), rows, 2)
    table = parquet.read_table(tmp_path / 'a.parquet').to_pydict()
    assert table['path'] == ['ü.jpg'.encode(), b'\xff.jpg']
    assert table['label'] == ['cat', '']


def test_a_float64_parquet_of_lists(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    import pyarrow

    parquet.write_table(pyarrow.table(dict(embedding=VECTORS.astype(float).tolist())), tmp_path / 'a.parquet')
    np.testing.assert_array_equal(read_index_file('search', tmp_path / 'a.parquet').rows.vectors, VECTORS)


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('left', [0, 100, -10])
def test_a_file_whose_end_is_missing(tmp_path, suffix, left):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    path = tmp_path / f'index{suffix}'
    write_index_file(path, dict(width=6), parts(50), 50)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r'index\.\w+, which is of another kind or incomplete'):
        read_index_file('search', path)


@pytest.mark.parametrize(
    ('arrays', 'says'),
    [
        (dict(other=VECTORS), 'expected an array vector in .*a.npz, got other'),
        (dict(vector=VECTORS[0]), r'expected vectors \(N, D\) of floats in .*, got float32 of shape \(6,\)'),
        (dict(vector=VECTORS.astype(int)), 'got int64'),
        (dict(vector=VECTORS, path=np.array(PATHS[:3])), 'damaged: it has 50 vectors, and path of 3'),
        (dict(vector=VECTORS, path=np.array(PATHS, object)), 'which is of another kind or incomplete'),
        (dict(vector=np.asfortranarray(VECTORS)), 'got Fortran order'),
    ],
)
def test_other_content_gets_a_sentence(tmp_path, arrays, says):
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(ValueError, match=says):
        read_index_file('search', tmp_path / 'a.npz')


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a.npz'
    write_index_file(path, dict(width=6), parts(50), 50)
    before = path.read_bytes()

    def failing():
        yield next(parts(10))
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space'):
        write_index_file(path, dict(width=6), failing(), 50)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['a.npz']


def test_one_long_name_does_not_make_all_of_them_long(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_texts, '_PADDED', 1000)
    names = [*PATHS[:48], 'x/' * 900, 'caf\udce9/ü']
    labels = ['', *LABELS[1:49], 'z' * 2000]
    write_index_file(tmp_path / 'a.npz', dict(width=6), [IndexPart(names, labels, NORMS, VECTORS)], 50)
    with np.load(tmp_path / 'a.npz') as file:
        assert sum(file[name].nbytes for name in file.files) < 15_000
    rows, _ = read_index_file('search', tmp_path / 'a.npz')
    assert (rows.paths.tolist(), rows.labels.tolist()) == (names, labels)
    assert rows.paths[rows.labels == 'cat'].tolist() == [
        one for one, of in zip(names, labels, strict=True) if of == 'cat'
    ]
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    with np.load(tmp_path / 'a.npz') as file:
        damaged = {name: file[name] for name in file.files}
    damaged['path_end'] = damaged['path_end'][::-1]
    np.savez(tmp_path / 'b.npz', **damaged)
    with pytest.raises(index_file.IndexFileError, match='incomplete'):
        read_index_file('search', tmp_path / 'b.npz')


def test_texts_are_a_plain_array_where_they_are_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_texts, '_PADDED', 1000)
    write_index_file(tmp_path / 'a.npz', dict(width=6), parts(50), 50)
    with np.load(tmp_path / 'a.npz') as file:
        assert file['path'].tolist() == PATHS
