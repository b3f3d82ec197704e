"""The section on nearest neighbours, as rows of thumbnails."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridcls.checks import counted

from ..image_inputs import Item
from .evaluated_images import EvaluatedImages
from .gallery_neighbours import Neighbours
from .html_page import Section, Table, percent
from .thumbnails import thumbnail

__all__ = ['chosen_queries', 'nearest_of_errors', 'neighbours_section']

_WRONG, _UNSURE, _PAIRS = 8, 4, 4


def chosen_queries(known: EvaluatedImages, seed: int = 0) -> list[tuple[str, list[int]]]:
    """Choose informative queries: titles, and positions, each of them once.

    Wrong answers, the surest of each confused pair first; the least certain of the right ones; and of the classes that
    are confused most one right image each, drawn at random.
    """
    wrong = known.predicted != known.labels
    surest = np.argsort(-known.confidence, kind='stable')
    by_pair: dict[tuple[int, int], list[int]] = {}
    for row in surest[wrong[surest]].tolist():
        by_pair.setdefault((int(known.labels[row]), int(known.predicted[row])), []).append(row)
    rounds = [rows[turn] for turn in range(_WRONG) for rows in by_pair.values() if turn < len(rows)]
    unsure = [row for row in surest[::-1].tolist() if not wrong[row]][:_UNSURE]
    rng = np.random.default_rng(seed)
    drawn: list[int] = []
    for pair, _ in sorted(by_pair.items(), key=lambda one: -len(one[1]))[:_PAIRS]:
        for label in pair:
            left = [row for row in np.flatnonzero((known.labels == label) & ~wrong) if row not in (*unsure, *drawn)]
            drawn += [int(rng.choice(left))] if left else []
    parts = [('Wrong answers, the most confident first', rounds[:_WRONG]),
             ('Right answers, the least confident first', unsure),
             ('Right answers of classes that are often confused, drawn at random', drawn)]  # fmt: skip
    return [(title, rows) for title, rows in parts if rows]


def neighbours_section(known: EvaluatedImages, found: Neighbours, classes: Sequence[str]) -> Section:
    """Show the nearest images of the chosen queries, and how well images find their class."""
    parts = [
        dict(title=title, rows=[_row(known, found, row, classes) for row in rows])
        for title, rows in chosen_queries(known)
    ]
    says = [
        f'Each row shows a query and its most similar images (cosine of the embeddings) among {found.gallery}. ✓ and a '
        'solid frame: same class as the query. ✗ and a dashed frame: another class.'
    ]
    nearest = nearest_of_errors(known, found, classes)
    if nearest['wrong']:
        says.append(
            f'For {counted(nearest["wrong"], "wrong answer")}, the nearest image is of the predicted class in '
            f'{counted(nearest["predicted_class"], "case")}, and of the right class in {nearest["right_class"]:,}.'
        )
    tables = []
    if found.scores:
        first = found.scores[0]
        what = (
            'share of queries whose nearest image is of the same class',
            'mean average precision among the R nearest images; R: images of the same class',
        )
        rows = [
            [one['name'], percent(one['value']), _interval(one), meaning]
            for one, meaning in zip(found.scores, what, strict=True)
        ]
        title = f'Retrieval of the same class: {counted(first["queries"], "query", "queries")}'
        tables.append(Table(title, ['score', 'value, %', '95 % interval', 'what'], rows, {1, 2}))
        if first['without_match']:
            says.append(
                'Not counted, because there is no other image of the class: '
                f'{counted(first["without_match"], "image")}.'
            )
    else:
        says.append('There is no second image of any class, so there are no retrieval scores.')
    return Section('neighbours', 'Neighbours', says, tables=tables, rows=parts)


def nearest_of_errors(known: EvaluatedImages, found: Neighbours, classes: Sequence[str]) -> dict[str, int]:
    """Count the ``wrong`` answers with a neighbour, and whose nearest one is of the predicted or of the right class."""
    wrong = [row for row in np.flatnonzero(known.wrong) if found.matches[row]]
    nearest = [found.matches[row][0].label for row in wrong]
    counts = {
        name: sum(label == classes[numbers[row]] for row, label in zip(wrong, nearest, strict=True))
        for name, numbers in (('predicted_class', known.predicted), ('right_class', known.labels))
    }
    return dict(wrong=len(wrong), **counts)


def _interval(score: dict[str, Any]) -> str:
    return 'too few images' if np.isnan(score['low']) else f'{score["low"]:.1f} to {score["high"]:.1f}'


def _row(known: EvaluatedImages, found: Neighbours, row: int, classes: Sequence[str]) -> dict[str, Any]:
    own, said = classes[known.labels[row]], classes[known.predicted[row]]
    text = own if own == said else f'{own}, predicted {said}'
    caption = f'{text}, {100 * known.confidence[row]:.0f} %'
    matches = zip(found.matches[row], found.pictures[row], strict=True)
    return dict(
        query=_picture(known.items[row], caption, known.items[row].path),
        found=[
            dict(_picture(item, f'{"✓" if match.label == own else "✗"} {match.similarity:.2f} {match.label or "?"}',
                          match.path), right=match.label == own)
            for match, item in matches
        ],
    )  # fmt: skip


def _picture(item: Item, caption: str, path: Any) -> dict[str, Any]:
    return dict(image=thumbnail(item), alt=f'{path}: {caption}', caption=caption)
