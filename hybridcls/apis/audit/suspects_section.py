"""The section on suspects: images by pairs of label and suggestion, and a table of all."""

from collections import Counter
from typing import Any

from hybridcls.checks import counted, is_or_are

from ..report.html_page import Section, Table, isolated
from ..report.thumbnails import thumbnail
from .audited_images import TrainingImages
from .label_suspects import Suspects
from .suspects_table import new_rows, suspect_again

__all__ = ['suspects_section']

_PICTURES, _PAIRS, _OF_A_PAIR, _ROWS = 48, 8, 12, 1000


def suspects_section(images: TrainingImages, suspects: Suspects, count: int) -> Section:
    """Show the most suspect images.

    Args:
        images (TrainingImages): All images.
        suspects (Suspects): All, ranked.
        count (int): How many are shown.
    """
    says = list(images.notes)
    if len(images):
        says += [*([suspects.caution] if suspects.caution else []), _estimate(images, suspects)]
    shown = new_rows(images, suspects, count)
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in shown:
        by_pair.setdefault((int(images.labels[row]), int(suspects.suggested[row])), []).append(row)
    groups = []
    if shown:
        first = [_picture(images, suspects, row) for row in shown[:_PICTURES]]
        groups.append(dict(title='The most suspect first', pictures=first))
    for (label, other), rows in sorted(by_pair.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_PAIRS]:
        if len(rows) > 1:
            labelled, rather = isolated(images.classes[label]), isolated(images.classes[other])
            title = f'Labelled {labelled}, rather {rather}? ({counted(len(rows), "image")})'
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
    if len(shown) > _ROWS:
        says.append(f'The table has the first {_ROWS} of {len(shown)}; the CSV file beside the page has all.')
    tables = [Table('Suspects, the most suspect first', head, cells, set(range(3, len(head))))] if cells else []
    if images.decided:
        again = suspect_again(images, suspects)
        known = suspects.listed - len(new_rows(images, suspects, suspects.listed))
        says += [f'Of these {known} were decided on before, and are listed with that below.'] if known else []
        says.append(_decided(images, again))
        if again:
            pictures = [_picture(images, suspects, row) for row in again[:_PICTURES]]
            groups.append(dict(title='Relabelled before, and suspect again', pictures=pictures))
        now = {images.decided_rows()[row].name: images.classes[suspects.suggested[row]] for row in again}
        before = [
            [one.name, one.label, one.decision, one.new, now.get(one.name, '')]
            for one in sorted(images.decided, key=lambda one: one.name not in now)[:_ROWS]
        ]
        head = ['image', 'label of the data', 'decided before', 'new label', 'rather']
        tables.append(Table('Decided before this training', head, before))
    return Section('suspects', 'Labels that look wrong', says, tables=tables, groups=groups)


def _decided(images: TrainingImages, again: list[int]) -> str:
    counts = Counter(one.decision for one in images.decided)
    words = dict(drop='dropped', relabel='relabelled', keep='kept')
    said = ', '.join(f'{counts[key]} {word}' for key, word in words.items() if counts[key])
    text = (
        f'Decided before this training: {said}. The CSV file has these decisions, too, and is the whole table for the '
        'next training; to take one back, empty its cell.'
    )
    return f'{text} Contradicted with the new label, too: {counted(len(again), "image")}.' if again else text


def _estimate(images: TrainingImages, suspects: Suspects) -> str:
    if not suspects.listed:
        return f'Of {counted(len(images), "label")} none is rather wrong than right: no suspects. (--top N lists some.)'
    return (
        f'Of {counted(len(images), "label")} {suspects.listed} {is_or_are(suspects.listed)} rather wrong than right, '
        f'as estimated: the suspects. '
        'Hard images of classes that look alike can look so with a right label: see how probably each is wrong, and '
        'the picture. Wrong labels that the model has learned by heart do not look wrong: there may be more.'
    )


def _picture(images: TrainingImages, suspects: Suspects, row: int) -> dict[str, Any]:
    label, rather = images.classes[images.labels[row]], images.classes[suspects.suggested[row]]
    text = f'{isolated(label)}, rather {isolated(rather)}?'
    return dict(image=thumbnail(images.items[row]), alt=f'{images.items[row].path}: {text}', caption=text)
