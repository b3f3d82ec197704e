"""Audit held-out images: slices in which the model fails, duplicates and leaks."""

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Optional

from hybridcls.checks import listed
from hybridcls.datasets.annotation_file import TABLES

from ..held_out_images import held_out_images
from ..image_inputs import Item
from ..inferencer import HybridInferencer
from ..report.configured_images import configured_images
from ..report.evaluated_images import EvaluatedImages, evaluate_images
from ..report.html_page import Section
from .audited_images import TrainingImages
from .duplicate_groups import Duplicates, find_duplicates, leaks_of
from .duplicates_section import duplicates_numbers, duplicates_section, duplicates_table
from .held_out_slices import held_out_slices
from .metadata import metadata_attributes
from .slices import SliceSearch
from .slices_section import slices_section

__all__ = ['MORE_TABLES', 'HeldOut', 'HeldOutAudit', 'audit_held_out', 'find_held_out']

MORE_TABLES = SLICES, DUPLICATES = '_slices.csv', '_duplicates.csv'
"""The ends of the names of the tables, after that of the page."""


class HeldOutAudit(NamedTuple):
    """The results of :func:`audit_held_out`.

    Args:
        sections (list[Section]): Of the page.
        tables (dict[str, bytes]): CSV files: the end of the name, and the content.
        numbers (dict): Numbers in JSON's types.
        duplicates (Duplicates): Among training and held-out images.
    """

    sections: list[Section]
    tables: dict[str, bytes]
    numbers: dict[str, Any]
    duplicates: Duplicates


class HeldOut(NamedTuple):
    """Held-out images, and the tables about them.

    Args:
        items (list[Item]): The images; empty where none are known.
        notes (list[str]): Sentences: which they are, or why there are none.
        tables (list[str]): What is known of them.
    """

    items: list[Item]
    notes: list[str]
    tables: list[str]


def find_held_out(
    model: HybridInferencer, data: Optional[str] = None, metadata: Sequence[str] = (), moved: Optional[str] = None
) -> HeldOut:
    """Find the held-out images and their tables, before any computation.

    Args:
        model (HybridInferencer): With classes, one an image.
        data (str, optional): Held-out images, as for :func:`held_out_images`; of a table all columns are used. Defaults
            to None: those that the config names for the test, else for the validation; without them there are neither
            slices nor leaks.
        metadata (Sequence[str]): Tables about the held-out images, with a column ``path``. Defaults to none.
        moved (str, optional): Where the folder of the training images is now, as for :func:`configured_images`.

    Raises:
        FileNotFoundError: If there are no images in ``data``.
        ValueError: If none of them has a class of the model, or a table is not about them.
    """
    if data is None:
        try:
            items, place, note = configured_images(model, moved)
        except (FileNotFoundError, ValueError) as error:
            reason = str(error).removeprefix('report: ').replace('--data FOLDER', '--held-out DATA')
            return HeldOut([], [f'Slices and leaks are not searched: {reason}'], [])
        notes = [note]
    else:
        items, notes = held_out_images(data, model.checkpoint_path, model.config, 'audit', ('test', 'val'))
        place = data
    if all(model.class_of(item.label) is None for item in items):
        raise ValueError(
            f'audit: expected held-out images of the classes of the model ({listed(model.classes, 5)}), got none in '
            f'{place}.'
        )
    paths = [item.path for item in items]
    for table in metadata:
        metadata_attributes(table, paths)
    own = []
    if place.lower().endswith(TABLES) and place not in metadata:
        with suppress(ValueError):  # a list of images need not tell more of them
            metadata_attributes(place, paths)
            own = [place]
    return HeldOut(items, notes, [*metadata, *own])


def audit_held_out(
    model: HybridInferencer,
    training: TrainingImages,
    seen: Optional[EvaluatedImages],
    held_out: HeldOut,
    rate: float = 0.05,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
) -> HeldOutAudit:
    """Search held-out images for slices in which the model fails, for duplicates and for leaks.

    Args:
        model (HybridInferencer): With classes, one an image.
        training (TrainingImages): The images that trained it.
        seen (EvaluatedImages, optional): What it says of them, in the same order; None if they are not there.
        held_out (HeldOut): See :func:`find_held_out`.
        rate (float): Of any slice where there is none, in (0, 1). Defaults to 0.05.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.

    Raises:
        ValueError: If no held-out image can be read.
    """
    for note in held_out.notes:
        tell(note)
    known = None
    if held_out.items:
        images = evaluate_images(model, held_out.items, batch_size, workers, caller='audit')
        known = images.part(images.known) if images.known.any() else None
    sections: list[Section] = []
    tables: dict[str, bytes] = {}
    numbers: dict[str, Any] = {}
    if known is not None:
        search = held_out_slices(model, known, held_out.tables, rate)
        search.notes = [*held_out.notes, *search.notes]
        sections.append(slices_section(search, known, model.classes))
        tables[SLICES] = _slices_table(search, known)
        numbers['slices'] = dict(
            images=len(known), tested=search.tested, rate=rate, found=[one.numbers() for one in search.found]
        )
    else:
        sections.append(Section('slices', 'Where it fails', held_out.notes))
    others: Sequence[Item] = () if known is None else known.items
    embeddings = None
    if seen is not None and seen.embeddings is not None and known is not None and known.embeddings is not None:
        embeddings = seen.embeddings, known.embeddings
    found = find_duplicates(
        [item.path for item in training.items],
        training.labels,
        [item.path for item in others],
        None if known is None else known.labels,
        embeddings,
    )
    leaks = None if known is None else leaks_of(found, known.predicted == known.labels)
    sections.append(duplicates_section(found, leaks, training.items, others, model.classes))
    tables[DUPLICATES] = duplicates_table(
        found,
        training.names(),
        [str(item.path) for item in others],
        model.classes,
        training.given_labels(),
        training.decided,
    )
    numbers['duplicates'] = duplicates_numbers(found, leaks)
    return HeldOutAudit(sections, tables, numbers, found)


def _slices_table(search: SliceSearch, images: EvaluatedImages) -> bytes:
    """Return the content of a CSV file with one row per image of each slice."""
    text = io.StringIO(newline='')
    writer = csv.writer(text)
    writer.writerow(['path', 'outcome', 'slice', 'wrong', 'confidence'])
    for one in search.found:
        for row in one.members:
            wrong = int(images.predicted[row] != images.labels[row])
            writer.writerow([
                images.items[row].path, one.outcome, one.name, wrong, f'{images.confidence[row]:.4f}',
            ])  # fmt: skip
    return text.getvalue().encode('utf8', 'surrogateescape')
