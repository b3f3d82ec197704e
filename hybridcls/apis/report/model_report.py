"""Report on a trained model: a page, and the same numbers as JSON."""

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
from .configured_images import configured_images
from .evaluated_images import evaluate_images
from .gallery_neighbours import check_gallery
from .html_page import render
from .overlays_section import overlay_numbers, overlays_of_some, overlays_section
from .report_parts import Asked, parts_of_classes, parts_of_embeddings, parts_of_labels
from .training_facts import training_facts
from .training_section import training_section

__all__ = ['Report', 'make_report']


class Report(NamedTuple):
    """The result of :func:`make_report`.

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
    mapped = check_overlays(model, items, overlay_layers) if overlays else 0
    unknown_items = None if ood is None else list(read_inputs(ood, 'report').items)
    images = evaluate_images(model, items, batch_size, workers, on_unreadable=on_unreadable)
    unknown = None
    if unknown_items is not None:
        unknown = evaluate_images(model, unknown_items, batch_size, workers, True, on_unreadable)
    inference = time.monotonic() - began
    tell(f'{counted(len(images), "image")} in {inference:.0f} s; writing the report.')
    make = parts_of_classes if is_plain else parts_of_labels if model.multi_label else parts_of_embeddings
    kinds = None if corruptions is None else corruptions or CORRUPTIONS
    phases = training_facts(model)
    warnings = [one.unfinished for one in phases if one.unfinished]
    asked = Asked(place, notes, warnings, batch_size, workers, tell, gallery, kinds)
    sections, numbers, count = make(model, images, unknown, asked)
    if overlays:
        known = images.part(images.known)
        found = overlays_of_some(model, known, overlays, overlay_layers, mapped, tell)
        classes_of = {
            str(item.path): model.classes[label] for item, label in zip(known.items, known.labels, strict=True)
        }
        sections.append(overlays_section(found, model.classes, classes_of))
        numbers['overlays'] = overlay_numbers(found)
    sections.insert(2, training_section(phases))
    name = Path(model.checkpoint_path).name
    date = time.strftime('%Y-%m-%d %H:%M')
    html = render(
        f'{Path(model.checkpoint_path).resolve().parent.name}: {name}',
        f'{counted(count, "labelled image")} of {place}, {date}. Numbers in [ ] are 95 % confidence intervals. They '
        'cover the choice of the images.',
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
