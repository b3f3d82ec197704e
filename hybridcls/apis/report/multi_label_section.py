"""The sections of a report on a multi-label model."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted

from .evaluated_images import EvaluatedImages
from .html_page import Section, Table, isolated, percent, shown_probability
from .multi_label_numbers import labels_of
from .thumbnails import thumbnail

__all__ = ['multi_label_classes_section', 'multi_label_images_section']

_SHOWN = 24


def multi_label_classes_section(rows: Sequence[dict[str, Any]]) -> Section:
    """Show the rows of the classes, of :func:`~hybridcls.apis.report.multi_label_numbers.multi_label_numbers`."""
    cells = [
        [row['class'], row['images'], percent(row['average_precision_percent']), _ends(row, 'average_precision'),
         percent(row['f1_percent']), _ends(row, 'f1'), percent(row['precision_percent']),
         percent(row['recall_percent']), None if row['threshold'] is None else f'{row["threshold"]:.2f}',
         row['answers'], 'few images' if row['insufficient_data'] else '']
        for row in rows
    ]  # fmt: skip
    head = ['class', 'images', 'average precision, %', '95 % interval', 'F1, %', '95 % interval', 'precision, %',
            'recall, %', 'threshold', 'predictions', 'note']  # fmt: skip
    return Section('classes', 'Results by class', tables=[Table('Classes', head, cells, set(range(1, 10)))])


def _ends(row: Mapping[str, Any], name: str) -> Optional[str]:
    low, high = row[f'{name}_percent_low'], row[f'{name}_percent_high']
    return None if low is None else f'{low:.1f} to {high:.1f}'


def multi_label_images_section(images: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the clearest missed labels, and the most confident wrong ones."""
    truths, answers = labels_of(images)
    groups = []
    for title, places, ways in (
        ('Missed labels, the least probable first', truths & ~answers, 1),
        ('Wrongly predicted labels, the most probable first', answers & ~truths, -1),
    ):
        rows, columns = np.nonzero(places)
        order = np.argsort(ways * images.scores[rows, columns], kind='stable')[:_SHOWN]
        pictures = []
        for row, column in zip(rows[order], columns[order], strict=True):
            item, score = images.items[row], images.scores[row, column]
            said = isolated(images.class_text(int(row), classes))
            text = f'{isolated(classes[column])} {shown_probability(score)}; true labels: {said}'
            pictures.append(dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text))
        if pictures:
            groups.append(dict(title=f'{title} ({len(rows)})', pictures=pictures))
    say = (
        'The predicted labels are not exactly the true ones for '
        f'{counted(int(images.wrong.sum()), "image", of=len(images))}.'
    )
    return Section('images', 'Images to look at', [say], groups=groups)
