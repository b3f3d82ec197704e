"""Read annotation files, which list images and labels, one image a line."""

import csv
import os
import re
from collections.abc import Sequence
from typing import Optional, Union

from mmengine import fileio

from hybridcls.checks import decode_text, did_you_mean

from .image_formats import readable_extensions

__all__ = ['number_labels', 'read_annotations']

# Common headings of the two columns.
_PATH_NAMES = {
    'path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image', 'img', 'image_path', 'img_path',
    'image_name', 'img_name', 'image_file', 'image_filename', 'image_id',
}  # fmt: skip
_LABEL_NAMES = {
    'label', 'labels', 'label_name', 'class', 'classname', 'class_name', 'class_id', 'category', 'category_name',
    'category_id', 'target', 'y', 'gt_label',
}  # fmt: skip
_DELIMITERS = ('\t', ';', ',')

Column = Union[str, int]


def read_annotations(
    caller: str,
    path: str,
    with_label: bool,
    encoding: str = 'utf-8',
    delimiter: Optional[str] = None,
    columns: Optional[Sequence[Column]] = None,
) -> list[tuple[int, str, str]]:
    """Read an annotation file.

    A file is a table if its name ends in ``.csv`` or ``.tsv``, if each line has a tab, or if ``delimiter`` is given;
    other files have lines ``path label``, split at the last white space (a path may contain some). The first line may
    be a heading: columns called ``path``, ``filename``, ``image`` ... and ``label``, ``class``, ``target`` ... are
    found at any position. Without a heading, path and label are the first two columns. Empty lines are skipped.

    Args:
        caller (str): Name used as the error prefix.
        path (str): The file, on any of mmengine's backends.
        with_label (bool): Whether a line has a label. If not, a line of a file that is not a table is the path.
        encoding (str): Text encoding; a byte order mark overrides it. Defaults to ``'utf-8'``.
        delimiter (str, optional): Delimiter of a table. Defaults to None: the one of tab, semicolon and comma that
            splits every line into the same number of cells, two or more.
        columns (Sequence[str | int], optional): Columns of path and label (without labels, of the path): names in the
            heading, or numbers from 0. Defaults to None: by the names above.

    Returns:
        list[tuple[int, str, str]]: Line number from 1, path of the image, label text (``''`` without labels).

    Raises:
        ValueError: If the text has another encoding, the delimiter or the columns are ambiguous, a line lacks a cell,
            or the file lists no image.
    """
    where = os.path.abspath(path)
    text = decode_text(caller, where, fileio.get(path), encoding, "ann_format=dict(encoding='cp1252')")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f'{caller}: {where} lists no image.')
    is_table = path.lower().endswith(('.csv', '.tsv')) or all('\t' in line.strip() for _, line in lines)
    if is_table or delimiter is not None:
        rows = _table(caller, where, lines, delimiter, 1 + with_label)
    else:
        cells = [line.strip().rsplit(None, 1) if with_label else [line.strip()] for _, line in lines]
        rows = [(number, row) for (number, _), row in zip(lines, cells, strict=True)]
        cut = next((d for d in ';,' if with_label and all(d in row[-1] for row in cells)), None)
        if cut is not None:
            raise ValueError(
                f'{caller}: expected lines "path label" in {where}, got {lines[0][1]!r}. If {cut!r} separates '
                f"path and label, set ann_format=dict(delimiter='{cut}') in this data set, or name the file .csv."
            )
    positions, has_heading = _find_columns(caller, where, rows, with_label, columns)
    entries = []
    for number, row in rows[has_heading:]:
        chosen = [row[position] if position < len(row) else '' for position in positions]
        if not all(chosen):
            what = 'path' if not chosen[0] else 'label'
            raise ValueError(
                f'{caller}: expected a {what} in line {number} of {where}, got {" ".join(row)!r}. Write lines "path '
                'label" ("path,label" in a .csv file); for images without labels set with_label=False.'
            )
        entries.append((number, chosen[0], chosen[1] if with_label else ''))
    if not entries:
        raise ValueError(f'{caller}: {where} lists no image.')
    return entries


def _table(
    caller: str, where: str, lines: Sequence[tuple[int, str]], delimiter: Optional[str], least: int
) -> list[tuple[int, list[str]]]:
    """Split the lines of a table into cells."""

    def rows_with(mark: str) -> list[tuple[int, list[str]]]:
        reader = csv.reader((line for _, line in lines), delimiter=mark)
        return [(lines[reader.line_num - 1][0], [cell.strip() for cell in row]) for row in reader]

    if delimiter is not None:
        return rows_with(delimiter)
    rows = {mark: rows_with(mark) for mark in _DELIMITERS if mark in lines[0][1]}
    fitting = {mark: cut for mark, cut in rows.items() if len({len(row) for _, row in cut}) == 1} or rows
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if not fitting and least == 1:
        return rows_with(',')
    what = ' and '.join(map(repr, fitting)) or 'neither tab nor semicolon nor comma'
    raise ValueError(
        f'{caller}: expected one delimiter in {where}, got {what} in {lines[0][1]!r}. Set '
        "ann_format=dict(delimiter=';') in this data set, with the delimiter of the file; for images without "
        'labels set with_label=False.'
    )


def _find_columns(
    caller: str,
    where: str,
    rows: Sequence[tuple[int, list[str]]],
    with_label: bool,
    columns: Optional[Sequence[Column]],
) -> tuple[list[int], bool]:
    """Return the columns of path and label, and whether the first row is their heading."""
    first = rows[0][1]
    if columns is not None:
        if isinstance(columns, str) or len(columns) != 1 + with_label:
            raise ValueError(
                f'{caller}: expected ann_format columns=({"path, label" if with_label else "path,"}), got {columns!r}.'
            )
        positions = []
        for column in columns:
            if column not in (first if isinstance(column, str) else range(len(first))):
                raise ValueError(
                    f'{caller}: expected a column {column!r} in {where}, got {", ".join(map(repr, first))}.'
                    f'{did_you_mean(str(column), first)}'
                )
            positions.append(first.index(column) if isinstance(column, str) else column)
        return positions, any(isinstance(column, str) for column in columns) or _names_no_image(rows, positions[:1])
    words = [cell.lower().replace(' ', '_') for cell in first]
    found = [[i for i, word in enumerate(words) if word in names] for names in (_PATH_NAMES, _LABEL_NAMES)]
    found = found[: 1 + with_label]
    if all(len(positions) == 1 for positions in found):
        return [positions[0] for positions in found], True
    if not found[0] and not _names_no_image(rows, range(len(first))):
        return list(range(1 + with_label)), False
    what = 'path' if len(found[0]) != 1 else 'label'
    names = 'path and label' if with_label else 'path'
    raise ValueError(
        f'{caller}: expected a column for the {what} in {where}, got {", ".join(map(repr, first))}. Call the columns '
        f'{names} in the first line, or set ann_format=dict(columns=({"..., ..." if with_label else "...,"})) in this '
        f'data set, with the {"two names" if with_label else "name"} as they are, or numbers from 0.'
    )


def _names_no_image(rows: Sequence[tuple[int, list[str]]], positions: Sequence[int]) -> bool:
    """Whether the first of these cells of the first row is not an image file, although cells below are."""
    first, endings = rows[0][1], readable_extensions()
    return not first[positions[0]].lower().endswith(endings) and any(
        row[position].lower().endswith(endings) for _, row in rows for position in positions if position < len(row)
    )


def number_labels(
    caller: str, path: str, entries: Sequence[tuple[int, str, str]], classes: Optional[Sequence[str]]
) -> tuple[list[int], tuple[str, ...]]:
    """Turn the labels of a list into class numbers.

    Args:
        caller (str): Name used as the error prefix.
        path (str): The file, for the message.
        entries: From :func:`read_annotations`.
        classes (Sequence[str], optional): The class names; labels are all names, or all numbers. Without class names,
            integer labels keep their value, and other labels are numbered in alphabetical order.

    Returns:
        tuple[list[int], tuple[str, ...]]: A number in [0, C) for each entry, and the C names.

    Raises:
        ValueError: If a label is not among the classes (with the line).

    Example:
        >>> number_labels('me', 'a.txt', [(1, 'x.png', 'dog'), (2, 'y.png', 'cat')], None)
        ([1, 0], ('cat', 'dog'))
    """
    written = [label for _, _, label in entries]
    # '007' is a name: a number would be written 7.
    numbers = {label: int(label) for label in set(written) if re.fullmatch('0|-?[1-9][0-9]*', label)}
    if classes is None:
        if len(numbers) < len(set(written)):
            classes = tuple(sorted(set(written)))
        else:
            classes = tuple(str(number) for number in range(max(numbers.values()) + 1))
    # Classes may be called '7', '8', ...: labels are names if all of them are, else numbers.
    number_of: dict[str, int] = {name: number for number, name in enumerate(classes)}
    if not number_of.keys() >= numbers.keys() and len(numbers) == len(set(written)):
        number_of = numbers
    found = []
    for line, _, label in entries:
        label_number = number_of.get(label)
        if label_number is None or not 0 <= label_number < len(classes):
            raise ValueError(
                f'{caller}: expected one of the {len(classes)} classes, or a number from 0 to {len(classes) - 1} in a '
                f'list of numbers, got {label!r} in line {line} of {os.path.abspath(path)}.'
                f'{did_you_mean(label, classes)}'
            )
        found.append(label_number)
    return found, tuple(classes)
