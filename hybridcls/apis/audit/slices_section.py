"""The section on slices: a sentence, a row and example images of each."""

from collections.abc import Sequence

import numpy as np

from hybridcls.checks import counted

from ..report.evaluated_images import EvaluatedImages
from ..report.html_page import Section, Table, isolated
from ..report.thumbnails import thumbnail
from .held_out_slices import OUTCOMES
from .slices import FoundSlice, SliceSearch

__all__ = ['slices_section']

_PICTURES = 8  # of a slice
_HEAD = ('slice', 'what', 'images', 'of these', '%', '95 % interval', 'other images, %', 'same classes, %', '% of all',
         'by chance', 'much the same images')  # fmt: skip


def slices_section(search: SliceSearch, images: EvaluatedImages, classes: Sequence[str]) -> Section:
    """Show the result of a search for slices.

    Args:
        search (SliceSearch): Its ``members`` are positions in ``images``.
        images (EvaluatedImages): The held-out images.
        classes (Sequence[str]): Names.
    """
    found = [f'{one.sentence(OUTCOMES[one.outcome])}{_same(one)}' for one in search.found]
    compared = f'{counted(search.tested, "slice")} of {counted(len(images), "held-out image")}'
    says = [
        *(found or ['No slice was found.']),
        f'{compared} were compared with the other images: by the look of the images, folders, columns of tables, '
        'classes, clusters, the gate, and pairs of these. They are compared inside the classes, so that dark images '
        'are not listed only because a hard class is dark. If errors are unrelated to all this, the probability of '
        f'listing any slice is at most {100 * search.rate:.3g} %. A slice is listed because it is extreme on these '
        'images. Expect a smaller difference on new images.',
        *search.notes,
    ]
    rows = [
        [one.name, OUTCOMES[one.outcome], one.images, one.count, f'{100 * one.share:.1f}',
         f'{100 * one.low:.1f} to {100 * one.high:.1f}', f'{100 * one.elsewhere:.1f}',
         f'{100 * one.expected:.1f}' if one.same_classes else None,
         f'{100 * one.of_all:.0f}', f'{one.by_chance:.3f}', '; '.join(one.also)]
        for one in search.found
    ]  # fmt: skip
    table = Table('Where it fails', _HEAD, rows, {2, 3, 4, 6, 7, 8, 9})
    groups = [
        dict(title=f'{one.name}: {OUTCOMES[one.outcome]}', pictures=_pictures(one, images, classes))
        for one in search.found
    ]
    return Section('slices', 'Where it fails', says, tables=[table] if rows else [], groups=groups)


def _same(one: FoundSlice) -> str:
    return f' Much the same images: {"; ".join(one.also)}.' if one.also else ''


def _pictures(one: FoundSlice, images: EvaluatedImages, classes: Sequence[str]) -> list[dict]:
    """Show images with the outcome, the most confident first; of rejected ones the least confident."""
    wrong = images.predicted[one.members] != images.labels[one.members]
    order = np.lexsort((-images.confidence[one.members], ~wrong))
    found = []
    for row in one.members[order][:_PICTURES]:
        label = isolated(classes[images.labels[row]])
        text = f'{label}, predicted {isolated(classes[images.predicted[row]])}'
        if images.labels[row] == images.predicted[row]:
            text = f'{label}, right'
        text += f' ({images.confidence[row]:.2f})'
        item = images.items[row]
        found.append(dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text))
    return found
