"""The suspects as a table, which a person decides on and the next training reads."""

import csv
import io
from typing import Optional

import numpy as np

from .audited_images import TrainingImages
from .label_suspects import Suspects

__all__ = ['decided_rows', 'suspects_table']


def decided_rows(images: TrainingImages, suspects: Suspects, count: int, decide: str) -> list[int]:
    """Choose the images that one decision for all of the first suspects is for.

    An image without which its class would have none is left to a person: a training refuses a class without images.

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
    for row in suspects.order[:count]:
        if left[images.labels[row]] > 1:
            left[images.labels[row]] -= 1
            left[suspects.suggested[row]] += decide == 'relabel'
            rows.append(int(row))
    return rows


def suspects_table(images: TrainingImages, suspects: Suspects, count: int, decide: Optional[str] = None) -> bytes:
    """Return the content of a CSV file, UTF-8: a line for each of the first suspects, with a column ``decision``.

    It is empty, or ``decide`` for :func:`decided_rows`. ``against`` names the signals that prefer another class; then
    the signals follow, as numbers.
    """
    decided = set(decided_rows(images, suspects, count, decide)) if decide else set()
    columns = {**suspects.margins, **suspects.signals}
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'suggested', 'decision', 'score', 'probability', 'against', *columns])
    names = images.names()
    for row in suspects.order[:count]:
        writer.writerow([
            names[row], images.classes[images.labels[row]], images.classes[suspects.suggested[row]],
            decide if int(row) in decided else '',
            f'{suspects.score[row]:.4f}', f'{suspects.probability[row]:.4f}', '|'.join(suspects.against(row)),
            *(f'{values[row]:.4f}' for values in columns.values()),
        ])  # fmt: skip
    return text.getvalue().encode('utf8', 'surrogateescape')
