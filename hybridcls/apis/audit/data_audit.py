"""Audit the data of a training: a page, the suspects as a table, and the same numbers as JSON."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from hybridcls.checks import counted

from ..inferencer import HybridInferencer
from ..report.evaluated_images import EvaluatedImages, evaluate_images
from ..report.html_page import render
from .audited_images import TrainingImages, no_images, training_images
from .cross_validated_scores import cross_validated_scores
from .held_out_audit import audit_held_out, find_held_out
from .label_neighbours import neighbour_votes
from .label_suspects import Suspects, find_suspects
from .suspects_section import suspects_section
from .suspects_table import decided_rows, new_rows, suspect_again, suspects_table

__all__ = ['Audit', 'audit_data']


class Audit(NamedTuple):
    """The results of an audit.

    Args:
        html (str): The page.
        table (bytes): The suspects, a CSV file.
        numbers (dict): Numbers in JSON's types.
        more_tables (dict[str, bytes]): More CSV files: the end of the name, such as ``'_slices.csv'``, and the content.
    """

    html: str
    table: bytes
    numbers: dict[str, Any]
    more_tables: dict[str, bytes]


def audit_data(
    model: HybridInferencer,
    data: Optional[str] = None,
    top: Optional[int] = None,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
    held_out: Optional[str] = None,
    metadata: Sequence[str] = (),
    rate: float = 0.05,
    decide: Optional[str] = None,
) -> Audit:
    """Search for wrong labels, for slices in which the model fails, for duplicates and for leaks.

    Args:
        model (HybridInferencer): With classes, one an image.
        data (str, optional): As for :func:`training_images`.
        top (int, optional): So many suspects. Defaults to None: as many as are found.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.
        held_out (str, optional), metadata (Sequence[str]): As for :func:`find_held_out`.
        rate (float): As for :func:`audit_held_out`.
        decide (str, optional): ``'drop'`` or ``'relabel'``: what the table decides on those that it lists. Defaults to
            None: nothing.

    Raises:
        ValueError: If the model has no classes, or several an image; see :func:`training_images`.
        FileNotFoundError: If there are no images.
    """
    if model.multi_label:
        raise ValueError(f'audit: expected a model with one class an image, got several by {model.head_name}.')
    if not model.classes:
        raise ValueError(
            f'audit: expected a model that names a class of an image, got {model.head_name}, which has only '
            'embeddings. Audit the phase that trains a classifier on them.'
        )
    if len(model.classes) < 2:
        raise ValueError(f'audit: expected a model of 2 classes or more, got one, {model.classes[0]!r}.')
    began = time.monotonic()
    moved = data if data is not None and os.path.isdir(data) else None
    others = find_held_out(model, held_out, metadata, moved)
    try:
        images = training_images(model, data)
    except FileNotFoundError as error:
        if data is not None or not others.items:
            raise
        images = no_images(model, str(error).removeprefix('audit: '))
    if len(found := set(images.labels.tolist())) == 1:
        images.notes.append(
            f'All images are of one class, {model.classes[found.pop()]!r}: a label looks wrong only beside images of '
            'another.'
        )
    for note in images.notes:
        tell(note)
    seen = evaluate_images(model, images.items, batch_size, workers, caller='audit') if images.are_there() else None
    if seen is not None and len(seen) < len(images):
        unread = len(images) - len(seen)
        images = images.part(seen.items)
        images.notes.append(f'Left out because they cannot be read: {counted(unread, "image")}.')
        tell(images.notes[-1])
    read = counted(len(images), 'training image')
    if len(images):
        tell(f'{read} in {time.monotonic() - began:.0f} s; comparing labels (may take minutes).')
    rest = audit_held_out(model, images, seen, others, rate, batch_size, workers, tell)
    suspects = _suspects(images, seen, rest.duplicates.group_numbers(len(images)))
    if suspects.caution:
        tell(suspects.caution)
    count = suspects.listed
    if top is not None:  # so many on which nothing was decided
        places = np.flatnonzero(~np.isin(suspects.order, [*images.decided_rows()]))
        count = len(images) if top > len(places) else int(places[top - 1]) + 1 if top else 0
    sections = [suspects_section(images, suspects, count), *rest.sections]
    html = render(
        f'Audit of {Path(model.checkpoint_path).resolve().parent.name}',
        f'{read}, {time.strftime("%Y-%m-%d %H:%M")}.',
        sections,
    )
    numbers = dict(
        checkpoint=model.checkpoint_path,
        images=len(images),
        recorded=images.record is not None,
        suspects=suspects.listed,
        expected_wrong=suspects.expected,
        contradicted=suspects.contradicted,
        strictness=suspects.strictness,
        **rest.numbers,
        listed=len(new_rows(images, suspects, count)),
        known=suspects.listed - len(new_rows(images, suspects, suspects.listed)),
        suspect_again=len(suspect_again(images, suspects)),
        decided=len(decided_rows(images, suspects, count, decide)) if decide else 0,
        decided_before=dict(Counter(one.decision for one in images.decided)),
        seconds=time.monotonic() - began,
    )
    return Audit(html, suspects_table(images, suspects, count, decide, rest.duplicates.to_drop()), numbers, rest.tables)


def _suspects(images: TrainingImages, seen: Optional[EvaluatedImages], groups: np.ndarray) -> Suspects:
    """Rank the images by the record and, if the files exist, by the model's present predictions; group duplicates."""
    scores, count = {}, len(images.classes)
    if not len(images):
        none, whole = np.zeros(0), np.zeros(0, np.int64)
        return Suspects(whole, none, none, whole, {}, {}, 0.0, 0)
    if seen is not None and seen.embeddings is not None:
        scores['cross_validated'] = cross_validated_scores(seen.embeddings, images.labels, count, groups)
        scores['neighbours'] = neighbour_votes(seen.embeddings, images.labels, count, groups=groups)
    elif seen is not None and images.record is None:
        scores['model'] = seen.scores
    return find_suspects(images.labels, count, scores, images.record, None if seen is None else seen.scores)
