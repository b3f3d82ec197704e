"""The suspects on the page: pictures by the pair of label and suggestion, and a table of all."""

from typing import Any

from ..report.html_page import Section, Table
from ..report.thumbnails import thumbnail
from .audited_images import TrainingImages
from .label_suspects import Suspects

__all__ = ['suspects_section']

_PICTURES, _PAIRS, _OF_A_PAIR, _ROWS = 48, 8, 12, 1000


def suspects_section(images: TrainingImages, suspects: Suspects, count: int) -> Section:
    """Show the first suspects.

    Args:
        images (TrainingImages): All images.
        suspects (Suspects): All, ranked.
        count (int): How many are shown.
    """
    says = [*images.notes, *([suspects.caution] if suspects.caution else []), _estimate(images, suspects)]
    shown = suspects.order[:count]
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in shown:
        by_pair.setdefault((int(images.labels[row]), int(suspects.suggested[row])), []).append(int(row))
    groups = []
    if len(shown):
        first = [_picture(images, suspects, int(row)) for row in shown[:_PICTURES]]
        groups.append(dict(title='The most suspect first', pictures=first))
    for (label, other), rows in sorted(by_pair.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_PAIRS]:
        if len(rows) > 1:
            title = f'Labelled {images.classes[label]}, rather {images.classes[other]}? ({len(rows)} images)'
            pictures = [_picture(images, suspects, row) for row in rows[:_OF_A_PAIR]]
            groups.append(dict(title=title, pictures=pictures))
    columns = {**suspects.margins, **suspects.signals}
    head = ['image', 'label', 'suggested', 'score', 'probably wrong, %', *(name.replace('_', ' ') for name in columns)]
    names = images.names()
    cells = [
        [names[row], images.classes[images.labels[row]], images.classes[suspects.suggested[row]],
         f'{suspects.score[row]:.3f}', f'{100 * suspects.probability[row]:.0f}',
         *(f'{values[row]:.2f}' for values in columns.values())]
        for row in shown[:_ROWS]
    ]  # fmt: skip
    if count > _ROWS:
        says.append(f'The table has the first {_ROWS} of {count}; the CSV file beside the page has all.')
    tables = [Table('Suspects, the most suspect first', head, cells, set(range(3, len(head))))] if cells else []
    return Section('suspects', 'Labels that look wrong', says, tables=tables, groups=groups)


def _estimate(images: TrainingImages, suspects: Suspects) -> str:
    if not suspects.listed:
        return f'Of {len(images)} labels none is rather wrong than right: no suspects. (--top N lists some.)'
    return (
        f'Of {len(images)} labels {suspects.listed} are rather wrong than right, as estimated: these are the suspects. '
        'Hard images of classes that look alike can look so with a right label: see how probably each is wrong, and '
        'the picture. Wrong labels that the model has learned by heart do not look wrong: there may be more.'
    )


def _picture(images: TrainingImages, suspects: Suspects, row: int) -> dict[str, Any]:
    text = f'{images.classes[images.labels[row]]}, rather {images.classes[suspects.suggested[row]]}?'
    return dict(image=thumbnail(images.items[row]), alt=f'{images.items[row].path}: {text}', caption=text)
