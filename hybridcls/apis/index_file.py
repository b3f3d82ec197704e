"""Files of embeddings: npz, whose vectors are memory-mapped, and Parquet."""

import json
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, Optional, Union

import numpy as np

from hybridcls.checks import check_file, check_installed, listed

from .parquet_texts import is_mostly_empty, raw_columns, text_array, text_values, texts_of

__all__ = [
    'FORMATS',
    'IndexFileError',
    'IndexContent',
    'IndexPart',
    'mapped_copy',
    'read_index_file',
    'write_index_file',
]

FORMATS = ('.npz', '.parquet')
_VECTOR_NAMES = ('vector', 'vectors', 'embedding', 'embeddings')
_ROWS_AT_ONCE = 8192
_ALIGNMENT = 64  # bytes, for products of mapped rows
_LOCAL_HEADER = 30  # bytes of a zip member before its name
_ABOUT = b'hybridcls'  # key of a Parquet file's metadata


class IndexFileError(ValueError):
    """The file is not an index, or is incomplete."""


class IndexPart(NamedTuple):
    """A chunk of rows of an index.

    Args:
        paths (Sequence[str]): Of the images.
        labels (Sequence[str]): Of their classes; ``''`` where none is known.
        norms (np.ndarray): Norms of the vectors, float32 (N,).
        vectors (np.ndarray): Embeddings, float32 (N, D).
    """

    paths: Any
    labels: Any
    norms: np.ndarray
    vectors: np.ndarray


class IndexContent(NamedTuple):
    """The content of an index file; the vectors stay on disk.

    Args:
        rows (IndexPart): All rows.
        about (dict): What the index says of itself; empty for a file that this package has not written.
    """

    rows: IndexPart
    about: dict[str, Any]


def write_index_file(path: Union[str, Path], about: dict[str, Any], parts: Iterable[IndexPart], count: int) -> None:
    """Write an index atomically, chunk by chunk.

    Args:
        path (str | Path): Ends in ``.npz`` or ``.parquet``.
        about (dict): In JSON's types; ``about['width']`` is D.
        parts (Iterable[IndexPart]): The rows in order.
        count (int): How many rows these have together.

    Raises:
        OSError: If it cannot be written; what was there before is untouched.
    """
    path = Path(path)
    unfinished = path.with_name(f'.unfinished_{path.name}')
    try:
        (_write_parquet if path.suffix == '.parquet' else _write_npz)(unfinished, about, parts, count)
        with open(unfinished, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_npz(path: Path, about: dict[str, Any], parts: Iterable[IndexPart], count: int) -> None:
    paths: list[str] = []
    labels: list[str] = []
    norms = []
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
        with _member(archive, 'vector') as file:
            header = dict(descr='<f4', fortran_order=False, shape=(count, about['width']))
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                paths += list(part.paths)
                labels += list(part.labels)
                norms.append(np.asarray(part.norms, '<f4'))
                file.write(np.ascontiguousarray(part.vectors, '<f4').tobytes())
        others = dict(norm=np.concatenate([*norms, np.empty(0, '<f4')]), **_texts('path', paths),
                      **_texts('label', labels), about=np.array(json.dumps(about)))  # fmt: skip
        for name, array in others.items():
            with _member(archive, name) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _texts(name: str, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays that hold a column of text.

    NumPy's array of strings, which anyone can read, gives each the size of the longest, 4 bytes a character. Where that
    would be large and mostly empty, the bytes of all texts follow one another, and ``_end`` says where each ends.
    """
    if not is_mostly_empty(texts):
        return {name: np.array(texts, str)}
    encoded = [text.encode('utf8', 'surrogateescape') for text in texts]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return {f'{name}_bytes': np.frombuffer(b''.join(encoded), np.uint8), f'{name}_end': ends}


def _texts_from(arrays: dict[str, np.ndarray], name: str) -> Optional[np.ndarray]:
    """Return a column of text of an index, (N,), by the arrays of :func:`_texts`; None if there is none."""
    if f'{name}_end' not in arrays:
        return arrays.get(name)
    content, ends = arrays[f'{name}_bytes'].tobytes(), arrays[f'{name}_end'].tolist()
    if arrays[f'{name}_bytes'].dtype != np.uint8 or ends != sorted(ends) or ends[-1:] not in ([], [len(content)]):
        raise ValueError(f'{name}_end does not fit {name}_bytes')
    return text_array([
        content[begin:end].decode('utf8', 'surrogateescape')
        for begin, end in zip([0, *ends], ends, strict=False)  # the first has one more
    ])  # fmt: skip


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Open a member of an archive for writing, with its content aligned to 64 bytes."""
    info = zipfile.ZipInfo(f'{name}.npy')
    zip64 = 20  # bytes of the field that zipfile adds
    begin = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + zip64 + 4  # type: ignore[union-attr]
    info.extra = struct.pack('<HH', 0xD935, -begin % _ALIGNMENT) + bytes(-begin % _ALIGNMENT)  # 0xD935: of zipalign
    with archive.open(info, 'w', force_zip64=True) as file:
        yield file


def _write_parquet(path: Path, about: dict[str, Any], parts: Iterable[IndexPart], count: int) -> None:
    from pyarrow import parquet

    schema = _parquet_schema(about, raw=set())
    writer = parquet.ParquetWriter(path, schema)
    try:
        for part in parts:
            texts = dict(path=part.paths, label=part.labels)
            raw = {name for name in texts if schema.field(name).type == 'binary'}
            more = raw | raw_columns({name: texts[name] for name in texts if name not in raw})
            if more > raw:
                writer.close()
                schema = _parquet_schema(about, more)
                writer = _written_again(path, schema)
            writer.write_table(_parquet_table(part, schema, more))
    finally:
        writer.close()


def _parquet_schema(about: dict[str, Any], raw: set[str]) -> Any:
    """Return the schema of an index; ``raw`` are the columns with texts that are not UTF-8."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float32()
    columns = {name: pyarrow.binary() if name in raw else text for name in ('path', 'label')}
    columns.update(norm=number, vector=pyarrow.list_(number, about['width']))
    return pyarrow.schema(list(columns.items()), {_ABOUT: json.dumps(about).encode()})


def _parquet_table(part: IndexPart, schema: Any, raw: set[str]) -> Any:
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(part.vectors, np.float32).reshape(-1))
    rows = pyarrow.FixedSizeListArray.from_arrays(flat, part.vectors.shape[1])
    texts = [
        pyarrow.array(text_values(column, name in raw), schema.field(name).type)
        for name, column in (('path', part.paths), ('label', part.labels))
    ]
    return pyarrow.Table.from_arrays([*texts, pyarrow.array(part.norms, pyarrow.float32()), rows], schema=schema)


def _written_again(path: Path, schema: Any) -> Any:
    """Write what a file has with another schema, and return the writer for what follows."""
    import pyarrow
    from pyarrow import parquet

    before = path.with_name(f'{path.name}.before')
    os.replace(path, before)
    writer = parquet.ParquetWriter(path, schema)
    try:
        with parquet.ParquetFile(before) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                writer.write_table(pyarrow.Table.from_batches([batch]).cast(schema))
    except BaseException:
        writer.close()
        raise
    finally:
        before.unlink()
    return writer


def read_index_file(caller: str, path: Union[str, Path]) -> IndexContent:
    """Open a file of embeddings, from ``hybridcls embed`` or any other with vectors.

    The vectors of an npz that is not compressed, and of an npy, are mapped; those of other files are copied to a
    temporary file without a name, and that is mapped.

    Args:
        caller (str): Name that errors start with.
        path (str | Path): ``.npz`` with an array ``vector`` (or ``embedding``) (N, D) and perhaps ``path``, ``label``;
            ``.npy`` (N, D); ``.parquet`` with these columns.

    Raises:
        FileNotFoundError: If there is no such file.
        IndexFileError: If it is damaged, or holds no vectors.
    """
    path = os.fspath(path)
    check_file(caller, 'index', path)
    try:
        content = _read_parquet(caller, path) if path.endswith('.parquet') else _read_arrays(caller, path)
    except (IndexFileError, PermissionError):
        raise
    except (zipfile.BadZipFile, EOFError, OSError, KeyError, struct.error, ValueError) as error:
        raise IndexFileError(
            f'{caller}: expected a file of embeddings (.npz, .npy, .parquet), got {path}, which is of another kind or '
            f'incomplete ({error}). Write it again: hybridcls embed CHECKPOINT IMAGES --out {path} --force'
        ) from error
    rows, count = content.rows, len(content.rows.vectors)
    for name, column in (('path', rows.paths), ('label', rows.labels), ('norm', rows.norms)):
        if len(column) != count:
            raise IndexFileError(f'{caller}: {path} is damaged: it has {count} vectors, and {name} of {len(column)}.')
    return content


def _read_arrays(caller: str, path: str) -> IndexContent:
    if path.endswith('.npy'):
        vectors = np.load(path, 'c', allow_pickle=False)
        _check_vectors(caller, path, vectors.shape, vectors.dtype)
        return _content(path, vectors if vectors.dtype == np.float32 else mapped_copy(vectors.shape, _blocks(vectors)))
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix('.npy') for name in archive.namelist()]
        name = next((name for name in _VECTOR_NAMES if name in names), None)
        if name is None:
            found = listed(names) or 'an empty archive'
            raise IndexFileError(f'{caller}: expected an array vector in {path}, got {found}.')
        vectors = _vectors(caller, path, archive, f'{name}.npy')
        more = {}
        for other in (
            'norm',
            'about',
            *(f'{name}{end}' for name in ('path', 'label') for end in ('', '_bytes', '_end')),
        ):
            if other in names:
                with archive.open(f'{other}.npy') as file:
                    more[other] = np.lib.format.read_array(file, allow_pickle=False)
    about = json.loads(str(more.pop('about'))) if 'about' in more else {}
    return _content(path, vectors, _texts_from(more, 'path'), _texts_from(more, 'label'), more.get('norm'), about)


def _content(
    path: str,
    vectors: np.ndarray,
    paths: Any = None,
    labels: Any = None,
    norms: Any = None,
    about: Optional[dict] = None,
) -> IndexContent:
    count = len(vectors)
    paths = np.array([f'{path}[{row}]' for row in range(count)], str) if paths is None else paths
    labels = np.full(count, '') if labels is None else labels
    if norms is None:
        norms = np.concatenate([np.linalg.norm(block, axis=1) for block in _blocks(vectors)] or [np.empty(0)])
    return IndexContent(IndexPart(paths, labels, np.asarray(norms, np.float32), vectors), about or {})


def _check_vectors(caller: str, path: str, shape: tuple[int, ...], dtype: Any) -> None:
    if len(shape) != 2 or np.dtype(dtype).kind != 'f':
        raise IndexFileError(f'{caller}: expected vectors (N, D) of floats in {path}, got {dtype} of shape {shape}.')


def _vectors(caller: str, path: str, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Memory-map a member of an archive, or copy it where that is not possible."""
    info = archive.getinfo(name)
    with open(path, 'rb') as file:
        file.seek(info.header_offset + _LOCAL_HEADER - 4)
        file.seek(sum(struct.unpack('<HH', file.read(4))), os.SEEK_CUR)
        stored = file.tell()
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read_header(member)
        _check_vectors(caller, path, shape, dtype)
        begin = stored + member.tell()
        if info.compress_type == zipfile.ZIP_STORED and not by_column and dtype == '<f4' and not begin % 4:
            return np.memmap(path, dtype, 'c', begin, shape) if min(shape) else np.empty(shape, np.float32)
        if by_column:
            raise IndexFileError(f'{caller}: expected vectors in {path} by row (C order), got Fortran order.')
        size = shape[1] * dtype.itemsize
        rows = (min(_ROWS_AT_ONCE, shape[0] - start) for start in range(0, shape[0], _ROWS_AT_ONCE))
        return mapped_copy(
            shape, (np.frombuffer(member.read(count * size), dtype).reshape(-1, shape[1]) for count in rows)
        )


def _blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        yield vectors[start : start + _ROWS_AT_ONCE]


def mapped_copy(shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Write blocks of rows to a temporary file, and memory-map it; the file is deleted with the array."""
    if not min(shape):
        return np.empty(shape, np.float32)
    with TemporaryFile() as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, '<f4').tobytes())
        file.flush()
        return np.memmap(file, '<f4', 'c', 0, shape)


def _read_parquet(caller: str, path: str) -> IndexContent:
    check_installed(caller, 'pyarrow', path, 'parquet')
    from pyarrow import parquet

    with parquet.ParquetFile(path, memory_map=True) as table:
        names = table.schema_arrow.names
        name = next((name for name in _VECTOR_NAMES if name in names), None)
        if name is None:
            raise IndexFileError(f'{caller}: expected a column vector in {path}, got {listed(names)}.')
        more = {
            other: table.read([other]).column(0).to_numpy(zero_copy_only=False)
            for other in ('path', 'label', 'norm')
            if other in names
        }
        about = json.loads((table.schema_arrow.metadata or {}).get(_ABOUT, b'{}'))
        vectors = _unpacked_column(caller, path, table, name)
    texts = {other: texts_of(more[other]) for other in ('path', 'label') if other in more}
    return _content(path, vectors, texts.get('path'), texts.get('label'), more.get('norm'), about)


def _unpacked_column(caller: str, path: str, table: Any, name: str) -> np.ndarray:
    count, width = table.metadata.num_rows, 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal width
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[name]):
            column = batch.column(0)
            flat = column.flatten().to_numpy(zero_copy_only=False)
            width = width or (len(flat) // len(column) if len(column) else 0)
            if len(flat) != width * len(column) or flat.dtype.kind != 'f':
                raise IndexFileError(f'{caller}: expected lists of {width} floats in the column {name} of {path}.')
            yield flat.reshape(len(column), width)

    parts = blocks()
    first = next(parts, np.empty((0, 0), np.float32))

    def all_blocks() -> Iterator[np.ndarray]:
        yield first
        yield from parts

    return mapped_copy((count, first.shape[1]), all_blocks())
