"""Which classes are taken for each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .charts import confusion_chart
from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, percent

__all__ = ['confusion_section']

_MATRIX = 40  # classes that a matrix shows


def confusion_section(pairs: Sequence[dict[str, Any]], known: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the matrix and the confused pairs of :func:`~hybridcls.apis.report.numbers.class_numbers`."""
    count = len(classes)
    rows = [
        [row['class'], row['predicted_as'], row['images'], percent(row['percent']),
         f'{percent(row["percent_low"])} to {percent(row["percent_high"])}' if row.get('percent_low') else None]
        for row in pairs
    ]  # fmt: skip
    head = ['class', 'predicted as', 'images', '% of the class', '95 % interval']
    tables = [Table('Confused pairs, the most frequent first', head, rows, {2, 3, 4})] if rows else []
    matrix = np.zeros((count, count))
    np.add.at(matrix, (known.labels, known.predicted), 1)
    shown = np.arange(count)
    says = []
    if count > _MATRIX:
        wrong = matrix - np.diag(np.diag(matrix))
        shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind='stable')[:_MATRIX])
        says.append(f'Of {count} classes, the matrix shows the {_MATRIX} that are confused most.')
    if not rows:
        says.append('No image is confused.')
    totals = matrix.sum(1, keepdims=True)
    shares = (matrix / np.maximum(totals, 1))[np.ix_(shown, shown)]
    chart = confusion_chart(shares, [classes[int(one)] for one in shown], 'Confusion matrix, percent of each class')
    return Section('confusion', 'Confusion', says, charts=[dict(
        svg=chart, caption='Rows: the class of the image; columns: what was predicted. Percent of the row.')],
        tables=tables)  # fmt: skip
