"""The table of suspects, in which a person decides and which the next training reads."""

import csv
import io
from collections.abc import Mapping
from typing import Optional

import numpy as np

from .audited_images import TrainingImages
from .label_suspects import Suspects

__all__ = ['decided_rows', 'new_rows', 'suspect_again', 'suspects_table']


def decided_rows(images: TrainingImages, suspects: Suspects, count: int, decide: str) -> list[int]:
    """Choose the suspects to which one decision for all (``--decide``) applies.

    Those on which something was decided before keep that. An image without which its class would have none is left to a
    person: a training refuses a class without images.

    Args:
        images (TrainingImages): All images.
        suspects (Suspects): All, ranked.
        count (int): How many are listed.
        decide (str): ``'drop'`` or ``'relabel'``.

    Returns:
        list[int]: Their rows, the most suspect first.
    """
    left = np.bincount(images.labels, minlength=len(images.classes))
    rows = []
    for row in new_rows(images, suspects, count):
        if left[images.labels[row]] > 1:
            left[images.labels[row]] -= 1
            left[suspects.suggested[row]] += decide == 'relabel'
            rows.append(int(row))
    return rows


def new_rows(images: TrainingImages, suspects: Suspects, count: int) -> list[int]:
    """Return the suspects without an earlier decision, the most suspect first."""
    decided = images.decided_rows()
    return [int(row) for row in suspects.order[:count] if int(row) not in decided]


def suspect_again(images: TrainingImages, suspects: Suspects) -> list[int]:
    """Return the images that were relabelled before, and whose new label the signals together contradict as well."""
    new = {row for row, one in images.decided_rows().items() if one.new}
    return [int(row) for row in suspects.order if int(row) in new and suspects.score[row] > 0.5]


def suspects_table(
    images: TrainingImages,
    suspects: Suspects,
    count: int,
    decide: Optional[str] = None,
    duplicates: Optional[Mapping[int, str]] = None,
) -> bytes:
    """Return the content of a CSV file, UTF-8, with one row per suspect and a column ``decision``.

    It is empty, or ``decide`` for :func:`decided_rows`. Then come the images that can be dropped because they are there
    twice, with the reason in ``against``. Below are the images on which something was decided before the training, with
    that decision and the label of the data, so that the next training, from the data as they are, needs this table
    alone: ``before`` says what was decided, ``now`` the class that speaks against a new label. ``against`` names the
    signals that prefer another class; then the signals follow, as numbers.

    Args:
        images (TrainingImages): All images.
        suspects (Suspects): All, ranked.
        count (int): How many are listed.
        decide (str, optional): ``'drop'`` or ``'relabel'``. Defaults to None: nothing.
        duplicates (Mapping[int, str], optional): Rows that can be dropped, and why. Defaults to none.
    """
    decided = set(decided_rows(images, suspects, count, decide)) if decide else set()
    columns = {**suspects.margins, **suspects.signals}
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    head = ['path', 'label', 'suggested', 'decision', 'before', 'now', 'score', 'probability', 'against', *columns]
    writer.writerow(head)
    names = images.names()

    def numbers(row: int, against: str = '') -> list[str]:
        against = against or '|'.join(suspects.against(row))
        return [
            f'{suspects.score[row]:.4f}', f'{suspects.probability[row]:.4f}', against,
            *(f'{values[row]:.4f}' for values in columns.values()),
        ]  # fmt: skip

    first = new_rows(images, suspects, count)
    for row in first:
        label, suggested = images.classes[images.labels[row]], images.classes[suspects.suggested[row]]
        writer.writerow([names[row], label, suggested, decide if row in decided else '', '', '', *numbers(row)])
    decided_rows_before = images.decided_rows()
    above = {*first, *decided_rows_before}
    for row, why in (duplicates or {}).items():
        if row not in above:
            writer.writerow([names[row], images.classes[images.labels[row]], '', '', '', '', *numbers(row, why)])
    rows = {one.name: row for row, one in decided_rows_before.items()}
    again = suspect_again(images, suspects)
    order = {row: place for place, row in enumerate(again)}
    for one in sorted(images.decided, key=lambda one: order.get(rows.get(one.name, -1), len(order))):
        row = rows.get(one.name, -1)
        suggested = one.new or ('' if row < 0 else images.classes[suspects.suggested[row]])
        now = images.classes[suspects.suggested[row]] if row in order else ''
        tail = [''] * (len(head) - 6) if row < 0 else numbers(row)
        writer.writerow([one.name, one.label, suggested, one.decision, one.decision, now, *tail])
    return text.getvalue().encode('utf8', 'surrogateescape')
