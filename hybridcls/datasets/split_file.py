"""The split table that a run writes when it divides the images: ``path,label,split,group``."""

import csv
import io
from collections.abc import Iterable

from .annotation_file import Annotation

__all__ = ['SPLIT_FILE', 'split_table']

SPLIT_FILE = 'split.csv'


def split_table(rows: Iterable[Annotation]) -> bytes:
    r"""Return the content of a split file, UTF-8; ``ann_format=dict(delimiter=',', labels='names')`` reads it.

    Raises:
        UnicodeEncodeError: If a path is not UTF-8.

    Example:
        >>> split_table([Annotation(2, 'a, b/1.png', 'a, b', 'train', '7')])
        b'path,label,split,group\r\n"a, b/1.png","a, b",train,7\r\n'
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'split', 'group'])
    writer.writerows([row.path, row.label, row.split, row.group] for row in rows)
    return text.getvalue().encode()
