"""Read a table of metadata, and join its columns to the images by path."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from hybridcls.checks import counted, decode_text, has_raw_bytes
from hybridcls.datasets.annotation_file import read_columns

from .slice_attributes import Attribute, column_attribute

__all__ = ['metadata_attributes']


def metadata_attributes(table: str, paths: Sequence[Optional[str]]) -> tuple[list[Attribute], list[str]]:
    """Return one attribute per column of a table.

    A line is that of an image if its path is, or is how the image's ends: ``night/7.jpg`` is that of
    ``/data/cat/night/7.jpg``. Of several lines the one with the longest path is taken.

    Args:
        table (str): A table with a heading; one column is called ``path`` (or ``filename`` ...).
        paths (Sequence[str]): Of the images; None of an image in memory.

    Returns:
        tuple[list[Attribute], list[str]]: The attributes, and a sentence about images without a line.

    Raises:
        ValueError: If no image has a line, or a line is that of several images.
    """
    written, columns = read_columns('audit', table)
    line_of: dict[str, int] = {}
    for number, path in enumerate(written):
        key = os.path.normpath(path).replace(os.sep, '/')
        if line_of.setdefault(key, number) != number:
            raise ValueError(f'audit: expected one line for each image in {table}, got two for {path!r}.')
    lines = [None if path is None else _line_of(path, line_of) for path in paths]
    taken: dict[int, str] = {}
    for path, line in zip(map(str, paths), lines, strict=True):
        if line is not None and taken.setdefault(line, path) != path:
            raise ValueError(
                f'audit: expected paths in {table} that tell the images apart, got {written[line]!r} for '
                f'{taken[line]} and {path}. Write the folder, too.'
            )
    if not taken:
        raise ValueError(
            f'audit: expected lines about the images ({next(iter(paths), None)!r} ...) in {table}, got none (its first '
            f'path is {written[0]!r}).'
            if written
            else f'audit: expected lines in {table}, got none.'
        )
    read = set(lines)
    if any(has_raw_bytes(path) and number not in read for number, path in enumerate(written)):
        decode_text('audit', table, Path(table).read_bytes())  # of no image: the table has another encoding
    missing = lines.count(None)
    notes = [f'Without a line in {table}: {missing} of {counted(len(lines), "image")}.'] if missing else []
    found = [
        column_attribute(name, ['' if line is None else cells[line] for line in lines])
        for name, cells in columns.items()
    ]
    return found, notes


def _line_of(path: str, line_of: dict[str, int]) -> Optional[int]:
    parts = os.path.abspath(path).replace(os.sep, '/').split('/')
    for start in range(len(parts)):
        line = line_of.get('/'.join(parts[start:]))
        if line is not None:
            return line
    return None
