"""Columns of text in Parquet files, where a name of a file may have bytes that are not UTF-8."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hybridcls.checks import has_raw_bytes

__all__ = ['is_mostly_empty', 'raw_columns', 'text_array', 'text_values', 'texts_of']

_PADDED = 2**26  # bytes of an array of strings, up to which it may be mostly empty


def raw_columns(columns: Mapping[str, Iterable[Any]]) -> set[str]:
    """Return the columns with a text that is not UTF-8: Parquet's strings are, so these columns have to be binary."""
    return {
        name
        for name, values in columns.items()
        if any(isinstance(value, str) and has_raw_bytes(value) for value in values)
    }


def text_values(texts: Iterable[Any], raw: bool) -> list[Any]:
    """Return the values of a column for pyarrow: texts, or in a binary column their bytes; None stays."""
    texts = [None if text is None else str(text) for text in texts]
    return [None if text is None else text.encode('utf8', 'surrogateescape') for text in texts] if raw else texts


def texts_of(values: Sequence[Any]) -> np.ndarray:
    """Return the texts of a column (N,), from strings or from bytes (decoded as by :func:`os.fsdecode`)."""
    return text_array(
        [value.decode('utf8', 'surrogateescape') if isinstance(value, bytes) else str(value) for value in values]
    )


def text_array(texts: Sequence[str]) -> np.ndarray:
    """Return texts as an array of strings or, where that :func:`is_mostly_empty`, of Python's objects, (N,)."""
    if not is_mostly_empty(texts):
        return np.array(texts, str)
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def is_mostly_empty(texts: Sequence[str]) -> bool:
    """Return whether NumPy's array of strings, which gives each the size of the longest, would be large and empty."""
    padded = 4 * len(texts) * max(map(len, texts), default=0)  # bytes
    return padded > max(_PADDED, 8 * sum(map(len, texts)))
