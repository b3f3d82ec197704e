"""The split table that a run writes when it divides the images: ``path,label,split,group``."""

import csv
import io
import os
from collections.abc import Iterable

from hybridcls.checks import has_raw_bytes

from .annotation_file import Annotation, read_rows

__all__ = ['SPLIT_FILE', 'read_split_table', 'split_table']

SPLIT_FILE = 'split.csv'


def split_table(rows: Iterable[Annotation]) -> bytes:
    r"""Return the content of a split file, UTF-8; ``ann_format=dict(delimiter=',', labels='names')`` reads it.

    Names of files that are not UTF-8 have their own bytes in it.

    Raises:
        ValueError: If the name of a class is not UTF-8.

    Example:
        >>> split_table([Annotation(2, 'a, b/1.png', 'a, b', 'train', '7')])
        b'path,label,split,group\r\n"a, b/1.png","a, b",train,7\r\n'
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'split', 'group'])
    for row in rows:
        if has_raw_bytes(row.label):
            raise ValueError(f'expected names of classes in UTF-8, got {row.label!r} (of {row.path!r}). Rename it.')
        writer.writerow([row.path, row.label, row.split, row.group])
    return text.getvalue().encode('utf8', 'surrogateescape')


def read_split_table(caller: str, file: str, root: str) -> list[Annotation]:
    """Read a split file.

    Args:
        caller (str): Name that errors start with.
        file (str): The file.
        root (str): The folder that its paths are relative to, or a list of images in that folder.

    Raises:
        ValueError: If it is no text, or no table with the columns ``path`` and ``label``.
    """
    folder = os.path.dirname(root) if os.path.isfile(root) else root
    return read_rows(caller, file, True, True, delimiter=',', labels='names', folder=folder)[0]
