"""The section on duplicates and leaks: on the page, as a table to decide on, and as numbers."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Optional

from hybridcls.checks import counted
from hybridcls.functional.metrics.intervals import Interval

from ..image_inputs import Item
from ..report.html_page import Section, isolated
from ..report.thumbnails import thumbnail
from .decided_before import DecidedImage, name_key
from .duplicate_groups import HELD_OUT, TRAINING, DuplicateGroup, Duplicates, Leaks

__all__ = ['duplicates_numbers', 'duplicates_section', 'duplicates_table']

_GROUPS, _OF_A_GROUP = 24, 6
_KINDS = dict(exact='equal files', near='look the same', crop='one is a part of the other')


def duplicates_section(
    found: Duplicates,
    leaks: Optional[Leaks],
    training: Sequence[Item],
    held_out: Sequence[Item],
    classes: Sequence[str],
) -> Section:
    """Show the groups: those with several labels first, then those in both splits.

    Args:
        found (Duplicates): The groups.
        leaks (Leaks, optional): What the leaked ones do to the accuracy.
        training (Sequence[Item]), held_out (Sequence[Item]): The images that ``found`` numbers.
        classes (Sequence[str]): Names.
    """
    contradicting = [one for one in found.groups if one.contradicts]
    copies = found.copies()
    says = [
        f'Compared with each other: {counted(found.training, "training image")} and '
        f'{counted(found.held_out, "held-out one")}.'
    ]
    if contradicting:
        images = sum(len(one.training or one.held_out) for one in contradicting)
        split = TRAINING if found.training else HELD_OUT
        says.append(
            f'{counted(images, f"{split} image")}, in {counted(len(contradicting), "group")}, show the same under '
            f'several labels.'
        )
    if copies:
        says.append(f'Copies, to the byte, of others of their class: {counted(len(copies), "training image")}.')
    if leaks is not None:
        says.append(_sentence(leaks))
        differing = sum(one.leaks_other_label for one in found.groups)
        if differing:
            says.append(
                f'In {counted(differing, "group")}, a held-out image has another label than its copy in the training: '
                'at least one of the labels is wrong.'
            )
    elif found.held_out and found.training:
        says.append('No held-out image is among the training images.')
    elif not found.training:
        says.append('The training images are missing, so it is unknown whether held-out images are among them.')
        says += [f'Groups of held-out images that show the same: {len(found.groups)}.'] if found.groups else []
    if not found.groups:
        says.append('No image occurs twice.')
    groups = [dict(title=_title(one), pictures=_pictures(one, training, held_out, classes)) for one in
              found.groups[:_GROUPS] if one.contradicts or one.is_leak or not one.training]  # fmt: skip
    return Section('duplicates', 'Duplicates and leaks', says, groups=groups)


def _sentence(leaks: Leaks) -> str:
    def shown(value: float, ends: Interval) -> str:
        return f'{100 * value:.1f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}]'

    found = f'Also among the training images: {counted(leaks.leaked, "held-out image", of=leaks.images)}. '
    if leaks.leaked == leaks.images:
        return f'{found}The accuracy of {shown(leaks.accuracy, leaks.accuracy_interval)} does not hold for new images.'
    change = leaks.change_interval
    return (
        f'{found}The accuracy is {shown(leaks.accuracy, leaks.accuracy_interval)}. On these images it is '
        f'{shown(leaks.leaked_accuracy, leaks.leaked_interval)}, on all others '
        f'{shown(leaks.clean, leaks.clean_interval)}. Leaving them out changes the accuracy by '
        f'{-100 * leaks.change:+.2f} [{-100 * change.high:+.2f}, {-100 * change.low:+.2f}] points.'
    )


def _title(one: DuplicateGroup) -> str:
    what = [_KINDS[one.kind]]
    if one.contradicts:
        what.append('several labels')
    if one.is_leak:
        what.append('in training and held out' + (' with different labels' if one.leaks_other_label else ''))
    return ', '.join(what)


def _pictures(
    one: DuplicateGroup, training: Sequence[Item], held_out: Sequence[Item], classes: Sequence[str]
) -> list[dict]:
    found = []
    for split, item, label in _rows(one, training, held_out)[:_OF_A_GROUP]:
        text = f'{isolated(classes[label])} ({split})'
        found.append(dict(image=thumbnail(item), alt=f'{item.path}: {text}', caption=text))
    return found


def _rows(one: DuplicateGroup, training: Sequence[Item], held_out: Sequence[Item]) -> list[tuple[str, Item, int]]:
    """Return split, image and class number of each image, alternating between the splits."""
    own = [('training', training[row]) for row in one.training] + [('held out', held_out[row]) for row in one.held_out]
    rows = [(split, item, label) for (split, item), label in zip(own, one.labels, strict=True)]
    first = len(one.training)
    places = [(row if row < first else row - first, row) for row in range(len(rows))]
    return [rows[row] for _, row in sorted(places)]


def duplicates_table(
    found: Duplicates,
    training: Sequence[str],
    held_out: Sequence[str],
    classes: Sequence[str],
    given_labels: Sequence[str],
    decided: Sequence[DecidedImage] = (),
) -> bytes:
    """Return the content of a CSV file with one row per image of each group, and a column ``decision``.

    ``advice`` is ``drop`` for a training image that :meth:`Duplicates.to_drop` names. ``decision`` is empty, or what
    was decided before; images that were dropped before follow, so that the table has all that the next training drops.

    Args:
        found (Duplicates): The groups.
        training (Sequence[str]), held_out (Sequence[str]): Paths of the images that ``found`` numbers, to be written.
        classes (Sequence[str]): Names.
        given_labels (Sequence[str]): Of the training images, as the data have them: with these the table is read.
        decided (Sequence[DecidedImage]): What was decided before the training. Defaults to nothing.
    """
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'label', 'advice', 'decision', 'split', 'group', 'kind', 'labels'])
    advised, before = found.to_drop(), {name_key(one.name): one for one in decided if one.decision != 'relabel'}
    for number, one in enumerate(found.groups):
        labels = '|'.join(sorted({classes[label] for label in one.labels}))
        for place, label in enumerate(one.labels):
            trains = place < len(one.training)
            row = one.training[place] if trains else one.held_out[place - len(one.training)]
            name = (training if trains else held_out)[row]
            kept = before.pop(name_key(name), None) if trains else None
            writer.writerow([
                name, given_labels[row] if trains else classes[label], 'drop' if trains and row in advised else '',
                kept.decision if kept else '', 'training' if trains else 'held out', number, one.kind, labels,
            ])  # fmt: skip
    dropped = (one for one in before.values() if one.decision == 'drop')
    writer.writerows([one.name, one.label, '', 'drop', 'training', '', 'dropped before', ''] for one in dropped)
    return text.getvalue().encode('utf8', 'surrogateescape')


def duplicates_numbers(found: Duplicates, leaks: Optional[Leaks]) -> dict[str, Any]:
    """Return the duplicates and leaks in JSON's types."""
    numbers: dict[str, Any] = dict(
        groups=len(found.groups),
        contradicting=sum(one.contradicts for one in found.groups),
        copies=len(found.copies()),
        leaked=len(found.leaked()),
        leaked_with_other_label=sum(one.leaks_other_label for one in found.groups),
    )
    if leaks is not None:
        numbers['leaks'] = {
            name: list(value) if isinstance(value, Interval) else value for name, value in vars(leaks).items()
        }
    return numbers
