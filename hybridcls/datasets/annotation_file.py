"""Lists of images and labels: one image a line."""

import csv
import os
import re
from collections.abc import Sequence
from typing import Optional

from mmengine.fileio import get_text

from hybridcls.checks import did_you_mean

__all__ = ['number_labels', 'read_annotations']

_HEADINGS = {'path', 'file', 'filename', 'file_name', 'image', 'img', 'img_path', 'image_path'}


def read_annotations(who: str, path: str, with_label: bool) -> list[tuple[int, str, str]]:
    """Read a list of images.

    A line is ``path label``, split at its last white space so that paths may hold some; or, in a file that ends in
    ``.csv``, the first two cells, under an optional heading (``path,label``). Empty lines are left out.

    Args:
        who (str): Who speaks when a line is wrong.
        path (str): The file, on any of mmengine's backends.
        with_label (bool): Whether a line holds a label. Without, the whole line (first cell) is the path.

    Returns:
        list[tuple[int, str, str]]: Line number from 1, path of the image, label as written (``''`` without labels).

    Raises:
        ValueError: If a line has no label, or the file lists nothing.
    """
    lines = get_text(path).splitlines()
    entries: list[tuple[int, str, str]] = []
    if path.lower().endswith('.csv'):
        rows = ((number, [cell.strip() for cell in row]) for number, row in enumerate(csv.reader(lines), 1))
    else:
        rows = (
            (number, line.strip().rsplit(None, 1) if with_label else [line.strip()])
            for number, line in enumerate(lines, 1)
        )
    for number, cells in rows:
        if not cells or not any(cells) or (not entries and path.endswith('.csv') and cells[0].lower() in _HEADINGS):
            continue
        if with_label and len(cells) < 2:
            raise ValueError(
                f'{who}: line {number} of {os.path.abspath(path)} has no label: {cells[0]!r}. A line is '
                '"path label" ("path,label" in a .csv file); for images without labels set '
                'with_label=False.'
            )
        entries.append((number, cells[0], cells[1] if with_label else ''))
    if not entries:
        raise ValueError(f'{who}: {os.path.abspath(path)} lists no image.')
    return entries


def number_labels(
    who: str, path: str, entries: Sequence[tuple[int, str, str]], classes: Optional[Sequence[str]]
) -> tuple[list[int], tuple[str, ...]]:
    """Turn the labels of a list into class numbers.

    Args:
        who (str): Who speaks when a label is wrong.
        path (str): The file, for the message.
        entries: From :func:`read_annotations`.
        classes (Sequence[str], optional): The names of the classes; labels are all names, or all numbers. Without,
            labels that are all integers are taken as they are, and others are numbered in alphabetical order.

    Returns:
        tuple[list[int], tuple[str, ...]]: A number in [0, C) for each entry, and the C names.

    Raises:
        ValueError: If a label is not among the classes; names the line.

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
                f'{who}: line {line} of {os.path.abspath(path)} has the label {label!r}, which is neither '
                f'one of the {len(classes)} classes nor a number from 0 to {len(classes) - 1} in a list of numbers.'
                f'{did_you_mean(label, classes)}'
            )
        found.append(label_number)
    return found, tuple(classes)
