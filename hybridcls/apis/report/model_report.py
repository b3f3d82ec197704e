"""One report of a trained model: a page, and the same numbers as JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hybridcls.checks import check_choice, counted, listed
from hybridcls.datasets.transforms.corrupt import CORRUPTIONS
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights

from ..held_out_images import held_out_images
from ..image_inputs import Item, read_inputs
from ..inferencer import HybridInferencer
from ..overlays import check_overlays
from .calibration_effect import calibration_effect
from .calibration_section import calibration_section
from .classes_section import classes_section
from .configured_images import configured_images
from .confusion_section import confusion_section
from .corrupted_images import robustness
from .cost import seen_size
from .cost_section import cost_section
from .data_notes import data_notes
from .embedding_norm import read_norms
from .evaluated_images import EvaluatedImages, evaluate_images
from .gallery_neighbours import check_gallery, find_neighbours
from .headline_section import headline_section
from .html_page import Section, render
from .images_section import images_section
from .map_section import map_section
from .merged_tokens import read_merging
from .multi_label_section import multi_label_classes_section, multi_label_images_section, multi_label_numbers
from .neighbour_votes import NEIGHBOURS, with_votes
from .neighbours_section import neighbours_section
from .norm_section import norm_section
from .numbers import class_numbers, headline, rejection_numbers, reliability, retrieval_headline, risk_curve
from .overlays_section import overlay_numbers, overlays_of_some, overlays_section
from .robustness_section import robustness_section
from .stream_readings import read_streams
from .streams_section import stream_numbers, streams_section
from .tokens_section import tokens_section
from .training_facts import training_facts
from .training_section import training_section
from .trust_section import trust_section

__all__ = ['Report', 'make_report']


class Report(NamedTuple):
    """What was found.

    Args:
        html (str): The page.
        numbers (dict): The same numbers, in JSON's types.
    """

    html: str
    numbers: dict[str, Any]


def make_report(
    model: HybridInferencer,
    data: Optional[str] = None,
    ood: Optional[str] = None,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
    on_unreadable: str = 'skip',
    gallery: Optional[str] = None,
    corruptions: Optional[Sequence[str]] = None,
    overlays: int = 0,
    overlay_layers: Optional[Mapping[str, str]] = None,
) -> Report:
    """Evaluate a model, and make its report.

    Args:
        model (HybridInferencer): With classes, one or several an image, or of embeddings alone.
        data (str, optional): Labelled images, as for :func:`held_out_images`. Defaults to None: those of the test that
            the config of the training names, else of its validation.
        ood (str, optional): Images of none of the classes. Defaults to None.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.
        on_unreadable (str): As for a call of the model. Defaults to ``'skip'``.
        gallery (str, optional): Where neighbours are searched; see :func:`find_neighbours`. Defaults to None: among
            the images themselves.
        corruptions (Sequence[str], optional): Kinds of :class:`~hybridcls.datasets.transforms.Corrupt`, to test five
            severities of each; an empty list: all. Defaults to None: none.
        overlays (int): Of how many images class activation maps are shown. Defaults to 0.
        overlay_layers (Mapping[str, str], optional): The layer of a stream that these are of; see
            :func:`~hybridcls.apis.stream_maps.mapped_layers`.

    Raises:
        ValueError: If no image has a class of the model, or ``ood`` or ``overlays`` are given to a model without one
            class an image.
        FileNotFoundError: If there are no images.
    """
    is_plain = bool(model.classes) and not model.multi_label
    if ood is not None and not is_plain:
        raise ValueError(f'report: expected a model of one class an image for --ood, got {model.head_name}.')
    if corruptions is not None and not is_plain:
        raise ValueError(f'report: expected a model of one class an image for --corruptions, got {model.head_name}.')
    if gallery is not None and model.multi_label:
        raise ValueError(f'report: expected a model of one class an image for --gallery, got {model.head_name}.')
    if gallery is not None:
        check_gallery(model, gallery)
    for kind in corruptions or ():
        check_choice('report', '--corruptions', kind, CORRUPTIONS)
    if overlays and not is_plain:
        raise ValueError(f'report: expected a model of one class an image for --overlays, got {model.head_name}.')
    began = time.monotonic()
    items, place, notes = _images_of(model, data)
    for note in notes:
        tell(note)
    if overlays:
        check_overlays(model, items, overlay_layers)
    unknown_items = None if ood is None else list(read_inputs(ood, 'report').items)
    images = evaluate_images(model, items, batch_size, workers, on_unreadable=on_unreadable)
    unknown = None
    if unknown_items is not None:
        unknown = evaluate_images(model, unknown_items, batch_size, workers, True, on_unreadable)
    inference = time.monotonic() - began
    tell(f'{counted(len(images), "image")} in {inference:.0f} s; making the page.')
    make = _of_classes if is_plain else _of_labels if model.multi_label else _of_embeddings
    kinds = None if corruptions is None else corruptions or CORRUPTIONS
    asked = _Asked(place, notes, batch_size, workers, tell, gallery, kinds)
    sections, numbers, count = make(model, images, unknown, asked)
    if overlays:
        known = images.part(images.known)
        found = overlays_of_some(model, known, overlays, overlay_layers)
        classes_of = {
            str(item.path): model.classes[label] for item, label in zip(known.items, known.labels, strict=True)
        }
        sections.append(overlays_section(found, model.classes, classes_of))
        numbers['overlays'] = overlay_numbers(found)
    phases = training_facts(model)
    sections.insert(1, training_section(phases))
    name = Path(model.checkpoint_path).name
    date = time.strftime('%Y-%m-%d %H:%M')
    html = render(
        f'{Path(model.checkpoint_path).resolve().parent.name}: {name}',
        f'{counted(count, "labelled image")} of {place}, {date}. Numbers in [ ] are 95 % confidence intervals over '
        'these images.',
        sections,
    )
    numbers = dict(
        checkpoint=model.checkpoint_path,
        date=date,
        weights_sha256=digest_of_weights(model.checkpoint_path) if Path(model.checkpoint_path).exists() else None,
        data=place,
        images=count,
        unreadable=images.unreadable,
        **numbers,
        training=[dict(one.facts, phase=one.phase) for one in phases],
        inference_seconds=inference,
        seconds=time.monotonic() - began,
    )
    return Report(html, numbers)


def _images_of(model: HybridInferencer, data: Optional[str]) -> tuple[list[Item], str, list[str]]:
    if data is None:
        found = configured_images(model)
        items, place, notes = found.items, found.place, [found.note]
    else:
        items, notes = held_out_images(data, model.checkpoint_path, model.config, 'report', ('test', 'val'))
        place = data
    if model.classes and all(model.class_of(item.label) is None for item in items):
        labels = listed(dict.fromkeys(item.label or '(none)' for item in items), 5)
        raise ValueError(
            f'report: expected images of the classes of the model ({listed(model.classes, 5)}), got none in {place}, '
            f'whose labels are {labels}. Name class folders as the classes, or a table with path and label.'
        )
    return items, place, notes


Made = tuple[list[Section], dict[str, Any], int]


class _Asked(NamedTuple):
    """What a report is asked for, beside the images."""

    place: str
    notes: list[str]
    batch_size: Optional[int]
    workers: Optional[int]
    tell: Callable[[str], None]
    gallery: Optional[str]
    corruptions: Optional[Sequence[str]]


def _of_classes(
    model: HybridInferencer,
    images: EvaluatedImages,
    unknown: Optional[EvaluatedImages],
    asked: _Asked,
) -> Made:
    known, classes = images.part(images.known), model.classes
    readings = None if known.streams is None else read_streams(model, known.streams, seen_size(model, known.items))
    streams = None if readings is None else stream_numbers(readings, known, classes)
    rows = headline(known, classes)
    table, confusions = class_numbers(known, classes)
    rejection = rejection_numbers(known, unknown, classes) if unknown is not None else []
    calibration = None if model.calibration is None else model.calibration.calibration
    effect = calibration_effect(known, calibration)
    corrupted: list[dict[str, Any]] = []
    if asked.corruptions:
        corrupted = robustness(model, known, asked.corruptions, asked.batch_size, asked.workers, asked.tell)
    of_embeddings, more = _embedding_sections(model, known, classes, asked)
    sections = [
        headline_section(rows, [*asked.notes, *data_notes(model, images)], model, effect.threshold),
        confusion_section(confusions, known, classes),
        images_section(known, classes),
        classes_section(table),
        calibration_section(effect, model.checkpoint_path, asked.place, calibration),
        trust_section(known, unknown, rejection),
        robustness_section(corrupted) if corrupted else None,
        None
        if readings is None or streams is None
        else streams_section(
            readings, streams, known, classes, model.calibration.calibration.skip_sure if model.calibration else None
        ),
        *of_embeddings,
        map_section(known, classes),
        cost_section(model, known),
    ]
    numbers = dict(
        headline=rows, classes=table, confusions=confusions, reliability=reliability(known), ood=rejection,
        risk_coverage=risk_curve(known), calibration=effect._asdict(), robustness=corrupted, **more,
    )  # fmt: skip
    if streams is not None:
        numbers['streams'] = streams
    return [section for section in sections if section is not None], numbers, len(known)


def _embedding_sections(
    model: HybridInferencer, known: EvaluatedImages, classes: Sequence[str], asked: _Asked
) -> tuple[list[Optional[Section]], dict[str, Any]]:
    """Make what is said of embeddings: neighbours, norms and merged tokens."""
    found = find_neighbours(model, known, classes, asked.gallery, asked.batch_size, asked.workers)
    norms = read_norms(model, known, asked.batch_size, asked.workers)
    merging = read_merging(model, known.items)
    sections = [
        None if norms is None else norm_section(norms),
        None if merging is None else tokens_section(merging),
        None if found is None else neighbours_section(known, found, classes),
    ]
    numbers = dict(
        neighbours=None if found is None else dict(gallery=found.gallery, scores=found.scores),
        norm=None if norms is None else dict(images=norms.images, severity=norms.rows, right=norms.right),
        merged_tokens=None if merging is None else dict(merging._asdict(), images=len(merging.images)),
    )
    return sections, numbers


def _of_labels(
    model: HybridInferencer,
    images: EvaluatedImages,
    unknown: Optional[EvaluatedImages],
    asked: _Asked,
) -> Made:
    known, classes = images.part(images.known), model.classes
    head: Any = model.model.head
    rows, table = multi_label_numbers(known, classes, head.thresholds.values.tolist())
    sections = [
        headline_section(rows, [*asked.notes, *data_notes(model, images)], model),
        multi_label_images_section(known, classes),
        multi_label_classes_section(table),
        map_section(known, classes),
        cost_section(model, known),
    ]
    return [section for section in sections if section is not None], dict(headline=rows, classes=table), len(known)


def _of_embeddings(
    model: HybridInferencer,
    images: EvaluatedImages,
    unknown: Optional[EvaluatedImages],
    asked: _Asked,
) -> Made:
    known, classes = with_votes(images)
    rows = retrieval_headline(known)
    table, confusions = class_numbers(known, classes)
    notes = [
        f'The head ({model.head_name}) has no classes: each image is a query among the {len(known) - 1} others, and '
        f'what is said of classes is the vote of its {NEIGHBOURS} nearest ones.',
        *asked.notes,
        *data_notes(model, images),
    ]
    of_embeddings, more = _embedding_sections(model, known, classes, asked)
    sections = [
        headline_section(rows, notes, model),
        confusion_section(confusions, known, classes),
        images_section(known, classes),
        classes_section(table),
        *of_embeddings,
        map_section(known, classes),
        cost_section(model, known),
    ]
    numbers = dict(headline=rows, classes=table, confusions=confusions, **more)
    return [section for section in sections if section is not None], numbers, len(known)
