"""The section on classes: one row per class."""

from collections.abc import Sequence
from typing import Any

from .html_page import Section, Table, percent

__all__ = ['classes_section']


def classes_section(table: Sequence[dict[str, Any]]) -> Section:
    """Show the rows of :func:`~hybridcls.apis.report.numbers.class_numbers` as a table."""
    rows = []
    for row in table:
        ends = (row.get('recall_percent_low'), row.get('recall_percent_high'))
        interval = None if ends[0] is None else f'{ends[0]:.1f} to {ends[1]:.1f}'
        rows.append([
            row['class'], row['images'], percent(row['recall_percent']), interval,
            percent(row['precision_percent']), percent(row['f1_percent']), row['predictions'],
            'few images' if row.get('insufficient_data') else '',
        ])  # fmt: skip
    head = ['class', 'images', 'recall, %', '95 % interval', 'precision, %', 'F1, %', 'predictions', 'note']
    return Section('classes', 'Class by class', tables=[Table('Classes', head, rows, {1, 2, 3, 4, 5, 6})])
