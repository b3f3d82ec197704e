"""Columns of text in Parquet files, where a name of a file may have bytes that are not UTF-8."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hybridcls.checks import has_raw_bytes

__all__ = ['raw_columns', 'text_values', 'texts_of']


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
    """Return the texts of a column, str (N,), from strings or from bytes (decoded as by :func:`os.fsdecode`)."""
    return np.array(
        [value.decode('utf8', 'surrogateescape') if isinstance(value, bytes) else str(value) for value in values], str
    )
