"""The section on classes: one row per class."""

from collections.abc import Sequence
from typing import Any, Optional

from .html_page import Section, Table, percent

__all__ = ['classes_section']


def classes_section(table: Sequence[dict[str, Any]]) -> Section:
    """Show the rows of :func:`~hybridcls.apis.report.numbers.class_numbers` as a table."""
    rows = []
    for row in table:
        few = row.get('insufficient_data') or ()
        notes = [f'few {what}' for score, what in (('recall', 'images'), ('precision', 'predictions')) if score in few]
        rows.append([
            row['class'], row['images'], percent(row['recall_percent']), _interval(row, 'recall'), row['predictions'],
            percent(row['precision_percent']), _interval(row, 'precision'), percent(row['f1_percent']),
            ', '.join(notes),
        ])  # fmt: skip
    head = [
        'class', 'images', 'recall, %', '95 % interval', 'predictions', 'precision, %', '95 % interval',
        'F1, %', 'note',
    ]  # fmt: skip
    return Section('classes', 'Results by class', tables=[Table('Classes', head, rows, {1, 2, 3, 4, 5, 6, 7})])


def _interval(row: dict[str, Any], score: str) -> Optional[str]:
    low, high = row.get(f'{score}_percent_low'), row.get(f'{score}_percent_high')
    return None if low is None or high is None else f'{low:.1f} to {high:.1f}'
