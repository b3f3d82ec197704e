"""Read annotation files, which list images and labels, one image a line."""

import csv
import io
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union
from unicodedata import normalize

from mmengine import fileio

from hybridcls.checks import decode_text, did_you_mean, has_raw_bytes

from .image_formats import readable_extensions

__all__ = [
    'TABLES', 'Annotation', 'number_label_sets', 'number_labels', 'read_annotations', 'read_columns', 'read_rows',
]  # fmt: skip

TABLES = ('.csv', '.tsv')
"""Extensions of files that are tables."""

# Common headings of the two columns.
_PATH_NAMES = {
    'path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image', 'img', 'image_path', 'img_path',
    'image_name', 'img_name', 'image_file', 'image_filename', 'image_id',
}  # fmt: skip
_LABEL_NAMES = {
    'label', 'labels', 'label_name', 'class', 'classname', 'class_name', 'class_id', 'category', 'category_name',
    'category_id', 'target', 'y', 'gt_label',
}  # fmt: skip
_SPLIT_NAMES = {'split', 'subset'}
_GROUP_NAMES = {'group', 'group_id'}
_DELIMITERS = ('\t', ';', ',')
# Cells of a column that says for each image whether it has one label.
_YES_NO = {'0': False, '0.0': False, 'false': False, '': False, '1': True, '1.0': True, 'true': True}

Column = Union[str, int]


class Annotation(NamedTuple):
    """One line of an annotation file.

    Args:
        line (int): Its number, from 1.
        path (str): Of the image.
        label (str): The text of its label; several are separated by ``|``; ``''`` without labels.
        split (str): The part of the data it belongs to, ``'train'`` for one; ``''`` where the file does not say.
        group (str): Images of one group (a patient, a burst of photographs) are never divided; ``''`` where the file
            does not say.
    """

    line: int
    path: str
    label: str
    split: str = ''
    group: str = ''


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
    return [
        row[:3]
        for row in read_rows(caller, path, with_label, encoding=encoding, delimiter=delimiter, columns=columns)[0]
    ]


def read_rows(
    caller: str,
    path: str,
    with_label: bool,
    multi_label: bool = False,
    encoding: str = 'utf-8',
    delimiter: Optional[str] = None,
    columns: Optional[Sequence[Column]] = None,
    labels: Optional[str] = None,
    folder: Optional[str] = None,
) -> tuple[list[Annotation], Optional[list[str]]]:
    """Read an annotation file with its columns ``split`` and ``group``, and with several labels per image.

    Args:
        caller (str): See :func:`read_annotations`, as for the arguments that are not named here.
        path (str): The file.
        with_label (bool): Whether a line has labels.
        multi_label (bool): Whether it has any number of them: ``a|b`` in the column of the label, where an empty cell
            is an image without a label; or a table without such a column that has one of 0 and 1 for each class.
        encoding (str): Text encoding.
        delimiter (str, optional): Delimiter of a table.
        columns (Sequence[str | int], optional): Columns of path and label.
        labels (str, optional): ``'names'``: a label is the name of a class to the letter, also if it is a number or
            contains ``|``. Defaults to None: see :func:`number_labels`.
        folder (str, optional): Where the paths begin. Names of files that are there and are not UTF-8 may stand in the
            list as their bytes. Defaults to None: all of it is text.

    Returns:
        tuple[list[Annotation], list[str] | None]: The lines, and the class names where columns of 0 and 1 have them.

    Raises:
        ValueError: As :func:`read_annotations`; and for labels ``a|b`` without ``multi_label``, or a cell that is
            neither 0 nor 1.
    """
    where = os.path.abspath(path)
    content, other = fileio.get(path), "ann_format=dict(encoding='cp1252')"
    text = decode_text(caller, where, content, encoding, other, file_names=folder is not None)
    raw = has_raw_bytes(text)
    try:
        entries, classes = _rows_of(caller, path, where, text, with_label, multi_label, delimiter, columns, labels)
    except ValueError:
        if raw:  # of headings, say, which are text: this raises
            decode_text(caller, where, content, encoding, other)
        raise
    if raw:
        names = [row.path for row in entries if has_raw_bytes(row.path)]
        # Where one of them is a file, the list has names as the disk has them; others may have been deleted since.
        is_of_files = any(os.path.lexists(os.path.join(folder or '', name)) for name in names)
        if not is_of_files or any(has_raw_bytes(''.join(row[2:])) for row in entries):
            decode_text(caller, where, content, encoding, other)  # it is text: this raises
    return entries, classes


def _rows_of(
    caller: str,
    path: str,
    where: str,
    text: str,
    with_label: bool,
    multi_label: bool,
    delimiter: Optional[str],
    columns: Optional[Sequence[Column]],
    labels: Optional[str],
) -> tuple[list[Annotation], Optional[list[str]]]:
    lines = [(number, line) for number, line in enumerate(re.split('\r\n|\r|\n', text), 1) if line.strip()]
    if not lines:
        raise ValueError(f'{caller}: {where} lists no image.')
    is_table = path.lower().endswith(TABLES) or all('\t' in line.strip() for _, line in lines)
    if is_table or delimiter is not None:
        rows = _table(caller, where, text, delimiter, 1 + (with_label and not multi_label), labels == 'names')
    else:
        cells = [line.strip().rsplit(None, 1) if with_label else [line.strip()] for _, line in lines]
        rows = [(number, row) for (number, _), row in zip(lines, cells, strict=True)]
        cut = next((d for d in ';,' if with_label and all(d in row[-1] for row in cells)), None)
        if cut is not None:
            raise ValueError(
                f'{caller}: expected lines "path label" in {where}, got {lines[0][1]!r}. If {cut!r} separates '
                f"path and label, set ann_format=dict(delimiter='{cut}') in this dataset, or name the file .csv."
            )
    words = _words(rows[0][1])
    if with_label and columns is None and not any(word in _LABEL_NAMES for word in words):
        classes = _columns_of_classes(caller, where, rows, words, multi_label)
        if classes:
            return _with_columns_of_classes(caller, where, rows, words, classes), [rows[0][1][i] for i in classes]
    positions, has_heading = _find_columns(caller, where, rows, with_label, columns)
    more = [_only(words, names) if has_heading else None for names in (_SPLIT_NAMES, _GROUP_NAMES)]
    entries = []
    for number, row in rows[has_heading:]:
        chosen = [_cell(row, position) for position in positions]
        if not all(chosen[: 1 + (not multi_label)]):
            what = 'path' if not chosen[0] else 'label'
            raise ValueError(
                f'{caller}: expected a {what} in line {number} of {where}, got {" ".join(row)!r}. Write lines "path '
                'label" ("path,label" in a .csv file); for images without labels set with_label=False.'
            )
        if labels != 'names' and any('\n' in cell or '\r' in cell for cell in chosen):
            raise ValueError(
                f'{caller}: expected one image a line in {where}, got a cell of several lines from line {number} on. '
                'Close the quotation mark there, or double one that belongs to the cell; if these are names with line '
                "breaks, set ann_format=dict(labels='names')."
            )
        label = normalize('NFC', chosen[1]) if with_label else ''  # macOS writes some letters as two characters
        if '|' in label and not multi_label and labels != 'names':
            raise ValueError(
                f'{caller}: expected one label for each image, got {label!r} in line {number} of {where}. If these are '
                'several labels, set multi_label=True in this dataset; if it is one name, '
                "ann_format=dict(labels='names')."
            )
        entries.append(Annotation(number, chosen[0], label, *(_cell(row, position) for position in more)))
    if not entries:
        raise ValueError(f'{caller}: {where} lists no image.')
    return entries, None


def read_columns(caller: str, path: str) -> tuple[list[str], dict[str, list[str]]]:
    """Read the columns of a table with a header, other than label and split.

    Args:
        caller (str): Name used as the error prefix.
        path (str): The table; its delimiter is found as by :func:`read_annotations`.

    Returns:
        tuple[list[str], dict[str, list[str]]]: The paths, which may have bytes that are not UTF-8
            (:func:`~hybridcls.checks.has_raw_bytes`), and by heading the cells of every other column.

    Raises:
        ValueError: If there is no column of paths, or a line lacks its path.
    """
    where = os.path.abspath(path)
    content = fileio.get(path)
    text = decode_text(caller, where, content, file_names=True)
    rows = _table(caller, where, text, None, 1, to_the_letter=False) if text.strip() else []
    words = _words(rows[0][1]) if rows else []
    place = _only(words, _PATH_NAMES)
    if place is None:
        found = ', '.join(map(repr, rows[0][1])) if rows else 'no lines'
        raise ValueError(f'{caller}: expected a column path in the first line of {where}, got {found}.')
    empty = next((number for number, row in rows[1:] if not _cell(row, place)), None)
    if empty is not None:
        raise ValueError(f'{caller}: expected a path in line {empty} of {where}, got none.')
    known = _PATH_NAMES | _LABEL_NAMES | _SPLIT_NAMES | {'', 'unnamed:_0'}  # the last: an index column of pandas
    columns = {
        rows[0][1][at]: [_cell(row, at) for _, row in rows[1:]] for at, word in enumerate(words) if word not in known
    }
    if has_raw_bytes(''.join([*columns, *(cell for cells in columns.values() for cell in cells)])):
        decode_text(caller, where, content)  # only names of files are no text: this raises
    return [_cell(row, place) for _, row in rows[1:]], columns


def _words(heading: Sequence[str]) -> list[str]:
    return [cell.strip().lower().replace(' ', '_') for cell in heading]


def _only(words: Sequence[str], names: set[str]) -> Optional[int]:
    """Return the only column with this name, or None."""
    found = [position for position, word in enumerate(words) if word in names]
    return found[0] if len(found) == 1 else None


def _cell(row: Sequence[str], position: Optional[int]) -> str:
    return row[position] if position is not None and position < len(row) else ''


def _columns_of_classes(
    caller: str, where: str, rows: Sequence[tuple[int, list[str]]], words: Sequence[str], multi_label: bool
) -> list[int]:
    """Return the columns of a table that has one per class; an empty result for other tables.

    Raises:
        ValueError: If it is one, but ``multi_label`` is not set.
    """
    known = _PATH_NAMES | _SPLIT_NAMES | _GROUP_NAMES | {'', 'unnamed:_0'}  # the last: an index column of pandas
    if _only(words, _PATH_NAMES) is None:
        return []
    classes = [position for position, word in enumerate(words) if word not in known]
    if multi_label:
        return classes
    if len(rows) > 1 < len(classes) and all(_cell(row, i).lower() in _YES_NO for _, row in rows[1:] for i in classes):
        raise ValueError(
            f'{caller}: expected a column for the label in {where}, got one of 0 and 1 for each of {len(classes)} '
            'classes. Set multi_label=True in this dataset.'
        )
    return []


def _with_columns_of_classes(
    caller: str, where: str, rows: Sequence[tuple[int, list[str]]], words: Sequence[str], classes: Sequence[int]
) -> list[Annotation]:
    """Read a table with a column of 0 and 1 for each class."""
    heading = rows[0][1]
    for position in classes:
        if '|' in heading[position]:
            raise ValueError(f'{caller}: expected a class name without "|" in {where}, got {heading[position]!r}.')
    places = [_only(words, names) for names in (_PATH_NAMES, _SPLIT_NAMES, _GROUP_NAMES)]
    entries = []
    for number, row in rows[1:]:
        image, split, group = (_cell(row, position) for position in places)
        if not image:
            raise ValueError(f'{caller}: expected a path in line {number} of {where}, got {" ".join(row)!r}.')
        for position in classes:
            if _cell(row, position).lower() not in _YES_NO:
                raise ValueError(
                    f'{caller}: expected 0 or 1 in the column {heading[position]!r} of {where}, got '
                    f'{row[position]!r} in line {number}. Take out columns that are no class, or write the labels '
                    'of an image as a|b in a column called label.'
                )
        label = '|'.join(heading[position] for position in classes if _YES_NO[_cell(row, position).lower()])
        entries.append(Annotation(number, image, label, split, group))
    if not entries:
        raise ValueError(f'{caller}: {where} lists no image.')
    return entries


def _table(
    caller: str,
    where: str,
    text: str,
    delimiter: Optional[str],
    least: int,
    to_the_letter: bool,
) -> list[tuple[int, list[str]]]:
    """Split a table into cells, with the line in which each row begins; a cell in quotes may have several lines."""

    def chosen(table: _Table) -> list[tuple[int, list[str]]]:
        if table.open_line:
            raise ValueError(
                f'{caller}: expected a closing quotation mark for each opening one in {where}, got none for that in '
                f'line {table.open_line}. Close it, or double it and put quotation marks around the cell: """text".'
            )
        return table.rows

    if delimiter is not None:
        return chosen(_cut(text, delimiter, to_the_letter))
    first = next(line for line in re.split('\r\n|\r|\n', text) if line.strip())
    tables = {mark: _cut(text, mark, to_the_letter) for mark in _DELIMITERS if mark in first}
    fitting = {mark: one for mark, one in tables.items() if len({len(row) for _, row in one.rows}) == 1} or tables
    if len(fitting) == 1:
        return chosen(next(iter(fitting.values())))
    if not fitting and least == 1:
        return chosen(_cut(text, ',', to_the_letter))
    what = ' and '.join(map(repr, fitting)) or 'neither tab nor semicolon nor comma'
    raise ValueError(
        f'{caller}: expected one delimiter in {where}, got {what} in {first!r}. Set '
        "ann_format=dict(delimiter=';') in this dataset, with the delimiter of the file; for images without "
        'labels set with_label=False.'
    )


class _Table(NamedTuple):
    """Rows of a table, each with its first line, and the line of a quotation mark that is not closed, or 0."""

    rows: list[tuple[int, list[str]]]
    open_line: int


def _cut(text: str, mark: str, to_the_letter: bool) -> _Table:
    """Split a table at a delimiter."""
    end = 'a line of its own, unless it is within quotation marks'
    reader = csv.reader(io.StringIO(f'{text}\n{end}', newline=''), delimiter=mark)  # keeps the ends of lines in cells
    strip = str if to_the_letter else str.strip
    rows, begin = [], 1
    row: list[str] = []
    try:
        for row in reader:
            if mark.join(row).strip():
                rows.append((begin, [strip(cell) for cell in row]))
            last, begin = begin, reader.line_num + 1
    except csv.Error:  # more characters in one cell than it takes
        return _Table(rows, begin)
    if row != end.split(mark):
        return _Table(rows, last)
    return _Table(rows[:-1], 0)


def _find_columns(
    caller: str,
    where: str,
    rows: Sequence[tuple[int, list[str]]],
    with_label: bool,
    columns: Optional[Sequence[Column]],
) -> tuple[list[int], bool]:
    """Return the columns of path and label, and whether the first row is a header."""
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
    words = _words(first)
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
        f'dataset, with the {"two names" if with_label else "name"} as they are, or numbers from 0.'
    )


def _names_no_image(rows: Sequence[tuple[int, list[str]]], positions: Sequence[int]) -> bool:
    """Return whether the first of these cells is not an image file, although cells below it are."""
    first, endings = rows[0][1], readable_extensions()
    return not first[positions[0]].lower().endswith(endings) and any(
        row[position].lower().endswith(endings) for _, row in rows for position in positions if position < len(row)
    )


def number_labels(
    caller: str, path: str, entries: Sequence[tuple[int, str, str]], classes: Optional[Sequence[str]]
) -> tuple[list[int], tuple[str, ...]]:
    """Convert the labels of a list to class numbers.

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
    number_of: dict[str, int] = {normalize('NFC', name): number for number, name in enumerate(classes)}
    if not number_of.keys() >= numbers.keys() and len(numbers) == len(set(written)):
        number_of = numbers
    found = []
    for line, _, label in entries:
        label_number = number_of.get(label)
        if label_number is None or not 0 <= label_number < len(classes):
            from_one = number_of is numbers and min(numbers.values()) == 1 and max(numbers.values()) == len(classes)
            raise ValueError(
                f'{caller}: expected one of the {len(classes)} classes, or a number from 0 to {len(classes) - 1} in a '
                f'list of numbers, got {label!r} in line {line} of {os.path.abspath(path)}.'
                f'{" Numbers of classes count from 0." if from_one else did_you_mean(label, classes)}'
            )
        found.append(label_number)
    return found, tuple(classes)


def number_label_sets(
    caller: str, path: str, rows: Sequence[Annotation], classes: Optional[Sequence[str]]
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Convert labels ``a|b`` to lists of class numbers, in ascending order.

    Args:
        caller (str): Name used as the error prefix.
        path (str): The file, for the message.
        rows: From :func:`read_rows`; an empty label is no label.
        classes (Sequence[str], optional): The class names; None: see :func:`number_labels`.

    Returns:
        tuple[list[list[int]], tuple[str, ...]]: The numbers of each image, in [0, C), and the C names.

    Raises:
        ValueError: If a label is not among the classes, or no image has one and ``classes`` is not given.

    Example:
        >>> number_label_sets('me', 'a.csv', [Annotation(1, 'x.png', 'b|a'), Annotation(2, 'y.png', '')], None)
        ([[0, 1], []], ('a', 'b'))
    """
    each = [[(row.line, row.path, one.strip()) for one in row.label.split('|') if one.strip()] for row in rows]
    flat = [entry for entries in each for entry in entries]
    if not flat and classes is None:
        raise ValueError(f'{caller}: no image in {os.path.abspath(path)} has a label.')
    numbers, names = number_labels(caller, path, flat, classes) if flat else ([], tuple(classes or ()))
    remaining = iter(numbers)
    return [sorted({next(remaining) for _ in entries}) for entries in each], names
