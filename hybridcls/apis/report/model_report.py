"""One report of a trained model: a page, and the same numbers as JSON."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

from hybridcls.checks import listed

from ..held_out_images import held_out_images
from ..image_inputs import read_inputs
from ..inferencer import HybridInferencer
from .classes_section import classes_section
from .confusion_section import confusion_section
from .cost_section import cost_section
from .evaluated_images import evaluate_images
from .gate import read_gates
from .gate_section import gate_section
from .headline_section import headline_section
from .html_page import render
from .images_section import images_section
from .map_section import map_section
from .numbers import class_numbers, headline, rejection_numbers, reliability
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
    data: str,
    ood: Optional[str] = None,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
    tell: Callable[[str], None] = print,
) -> Report:
    """Evaluate a model, and make its report.

    Args:
        model (HybridInferencer): With classes, one an image.
        data (str): Labelled images, as for :func:`held_out_images`.
        ood (str, optional): Images of none of the classes. Defaults to None.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.

    Raises:
        ValueError: If the model has no classes, or several an image; or no image has one of them.
        FileNotFoundError: If there are no images.
    """
    if not model.classes or model.multi_label:
        raise ValueError(
            f'report: expected a model with one class an image, got {model.head_name}. Its embeddings: hybridcls embed.'
        )
    began = time.monotonic()
    items, notes = held_out_images(data, model.checkpoint_path, model.config)
    if not any(model.class_of(item.label) for item in items):
        raise ValueError(
            f'report: expected images of the classes of the model ({listed(model.classes, 5)}), got none in {data}. '
            'Name class folders as the classes, or a table with path and label.'
        )
    images = evaluate_images(model, items, batch_size, workers)
    known = images.part(images.known)
    unknown = None
    if ood is not None:
        unknown = evaluate_images(model, list(read_inputs(ood, 'report').items), batch_size, workers, unknown=True)
    inference = time.monotonic() - began
    tell(f'{len(images)} images in {inference:.0f} s; making the page.')
    facts = training_facts(model)
    gates = read_gates(model, known.items, batch_size)
    rows = headline(known, model.classes)
    table, confusions = class_numbers(known, model.classes)
    rejection = rejection_numbers(known, unknown, model.classes) if unknown is not None else []
    sections = [
        headline_section(rows, known, images, model, notes),
        training_section(facts),
        confusion_section(confusions, known, model.classes),
        images_section(known, model.classes),
        classes_section(table),
        trust_section(known, unknown, rejection),
        None if gates is None else gate_section(gates, known, model.classes),
        map_section(known, model.classes),
        cost_section(model, known),
    ]
    name = Path(model.checkpoint_path).name
    html = render(
        f'{Path(model.checkpoint_path).resolve().parent.name}: {name}',
        f'{len(known)} labelled images of {data}, {time.strftime("%Y-%m-%d %H:%M")}. Numbers in [ ] are 95 % '
        'confidence intervals over these images.',
        [section for section in sections if section is not None],
    )
    numbers = dict(
        checkpoint=model.checkpoint_path,
        data=data,
        images=len(known),
        headline=rows,
        classes=table,
        confusions=confusions,
        reliability=reliability(known),
        ood=rejection,
        training=dict(facts.facts),
        inference_seconds=inference,
        seconds=time.monotonic() - began,
    )
    return Report(html, numbers)
