"""The suspects as a table, which a person decides on and the next training reads."""

import csv
import io

from .audited_images import TrainingImages
from .label_suspects import Suspects

__all__ = ['suspects_table']


def suspects_table(images: TrainingImages, suspects: Suspects, count: int) -> bytes:
    """Return the content of a CSV file, UTF-8: a line for each of the first suspects, with an empty ``decision``.

    ``against`` names the signals that prefer another class; then the signals follow, as numbers.
    """
    columns = {**suspects.margins, **suspects.signals}
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'suggested', 'decision', 'score', 'probability', 'against', *columns])
    names = images.names()
    for row in suspects.order[:count]:
        writer.writerow([
            names[row], images.classes[images.labels[row]], images.classes[suspects.suggested[row]], '',
            f'{suspects.score[row]:.4f}', f'{suspects.probability[row]:.4f}', '|'.join(suspects.against(row)),
            *(f'{values[row]:.4f}' for values in columns.values()),
        ])  # fmt: skip
    return text.getvalue().encode('utf8', 'surrogateescape')
