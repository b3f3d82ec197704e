"""The suspects as a table, which a person decides on and the next training reads."""

import csv
import io

from .label_suspects import Suspects
from .training_images import TrainingImages

__all__ = ['suspects_table']


def suspects_table(images: TrainingImages, suspects: Suspects, count: int) -> bytes:
    """Return the content of a CSV file: a line for each of the first suspects, with an empty ``decision``."""
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'suggested', 'decision', 'score', 'probability', *suspects.signals])
    names = images.names()
    for row in suspects.order[:count]:
        probability = '' if suspects.probability is None else f'{suspects.probability[row]:.4f}'
        writer.writerow([
            names[row], images.classes[images.labels[row]], images.classes[suspects.suggested[row]], '',
            f'{suspects.score[row]:.4f}', probability, *(f'{values[row]:.4f}' for values in suspects.signals.values()),
        ])  # fmt: skip
    return text.getvalue().encode('utf8', 'surrogateescape')
