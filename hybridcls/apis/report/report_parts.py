"""The sections and numbers of a report, for each kind of model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

from hybridcls.checks import counted
from hybridcls.structures import Calibration

from ..inferencer import HybridInferencer
from .calibration_effect import calibration_effect
from .calibration_section import calibration_section
from .classes_section import classes_section
from .configured_images import calibration_place
from .confusion_section import confusion_section
from .corrupted_images import robustness
from .cost import model_cost, seen_size
from .cost_section import cost_section
from .data_notes import data_notes
from .embedding_norm import read_norms
from .evaluated_images import EvaluatedImages
from .gallery_neighbours import find_neighbours
from .headline_section import headline_section
from .html_page import Section
from .images_section import images_section
from .map_section import map_section
from .merged_tokens import read_merging
from .multi_label_numbers import multi_label_numbers
from .multi_label_section import multi_label_classes_section, multi_label_images_section
from .neighbour_votes import NEIGHBOURS, with_votes
from .neighbours_section import nearest_of_errors, neighbours_section
from .norm_section import norm_section
from .numbers import (
    class_numbers,
    error_counts,
    headline,
    rejection_numbers,
    reliability,
    retrieval_headline,
    risk_curve,
)
from .robustness_section import robustness_section
from .stream_readings import read_streams
from .streams_section import stream_numbers, streams_section
from .tokens_section import tokens_section
from .trust_section import trust_section
from .verdict_section import (
    Answer,
    class_verdict,
    embedding_verdict,
    label_verdict,
    price_of_errors,
    verdict_numbers,
    verdict_section,
)
from .weak_classes import WeakClasses, weak_classes

__all__ = ['Asked', 'Parts', 'parts_of_classes', 'parts_of_embeddings', 'parts_of_labels']


class Parts(NamedTuple):
    """The sections and the numbers of a report.

    Args:
        sections (list[Section]): In the order of the page.
        numbers (dict): In JSON's types.
        images (int): How many it is about.
    """

    sections: list[Section]
    numbers: dict[str, Any]
    images: int


class Asked(NamedTuple):
    """The options of a report.

    Args:
        place (str): Where the images are.
        notes (list[str]), warnings (list[str]): Sentences: which they are; what speaks against the training.
        batch_size (int, optional), workers (int, optional): As for a call of the model.
        tell (Callable): Takes lines about the progress.
        gallery (str, optional), corruptions (Sequence[str], optional): As for
            :func:`~hybridcls.apis.report.make_report`; of corruptions all that are meant.
    """

    place: str
    notes: list[str]
    warnings: list[str]
    batch_size: Optional[int]
    workers: Optional[int]
    tell: Callable[[str], None]
    gallery: Optional[str]
    corruptions: Optional[Sequence[str]]

    @property
    def about(self) -> list[str]:
        """Sentences that describe the images."""
        return self.notes or [f'The images of {self.place}.']


def parts_of_classes(
    model: HybridInferencer, images: EvaluatedImages, unknown: Optional[EvaluatedImages], asked: Asked
) -> Parts:
    """Make the sections for a model of one class an image.

    Args:
        model (HybridInferencer): The model.
        images (EvaluatedImages): All that were evaluated.
        unknown (EvaluatedImages, optional): Images of none of its classes.
        asked (Asked): What is asked for.
    """
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
    of_embeddings, more = _embedding_parts(model, known, classes, asked)
    weak, prices = weak_classes(table, float((~known.wrong).mean())), price_of_errors(known, classes)
    answers = class_verdict(
        known, classes, rows, weak, table, effect, prices, asked.about, [*asked.warnings, *data_notes(model, images)],
        unknown, rejection, corrupted,
        None if calibration is None or calibration.risk is None else calibration.risk['threshold'],
    )  # fmt: skip
    other = calibration_place(model, images.items)
    cost = model_cost(model, seen_size(model, known.items))
    sections = [
        verdict_section(answers, prices),
        headline_section(rows, model),
        confusion_section(confusions, known, classes),
        images_section(known, classes),
        classes_section(table),
        calibration_section(effect, model.checkpoint_path, other, calibration),
        trust_section(known, unknown, rejection),
        robustness_section(corrupted) if corrupted else None,
        None
        if readings is None or streams is None
        else streams_section(readings, streams, known, classes, None if calibration is None else calibration.skip_sure),
        *of_embeddings,
        map_section(known, classes),
        cost_section(cost),
    ]
    numbers = dict(
        headline=rows, classes=table, confusions=confusions, **error_counts(known), reliability=reliability(known),
        ood=rejection, risk_coverage=risk_curve(known),
        calibration=dict(effect._asdict(), applied=_applied(calibration)), robustness=corrupted, price_of_errors=prices,
        **_said(answers, weak), **more, cost=cost.numbers,
    )  # fmt: skip
    if streams is not None:
        numbers['streams'] = streams
    return _parts(sections, numbers, known)


def parts_of_labels(
    model: HybridInferencer, images: EvaluatedImages, unknown: Optional[EvaluatedImages], asked: Asked
) -> Parts:
    """Make the sections for a multi-label model; arguments as for :func:`parts_of_classes`."""
    known, classes = images.part(images.known), model.classes
    rows, table = multi_label_numbers(known, classes, model.label_thresholds())
    cost = model_cost(model, seen_size(model, known.items))
    answers = label_verdict(rows, table, asked.about, [*asked.warnings, *data_notes(model, images)])
    sections = [
        verdict_section(answers),
        headline_section(rows, model),
        multi_label_images_section(known, classes),
        multi_label_classes_section(table),
        map_section(known, classes),
        cost_section(cost),
    ]
    return _parts(sections, dict(headline=rows, classes=table, **_said(answers), cost=cost.numbers), known)


def parts_of_embeddings(
    model: HybridInferencer, images: EvaluatedImages, unknown: Optional[EvaluatedImages], asked: Asked
) -> Parts:
    """Make the sections for a model of embeddings alone; arguments as for :func:`parts_of_classes`."""
    known, classes = with_votes(images)
    rows = retrieval_headline(known)
    table, confusions = class_numbers(known, classes)
    weak = weak_classes(table, float((~known.wrong).mean()))
    about = [
        *asked.about,
        f'The head ({model.head_name}) has no classes. Each image is searched among the '
        f'{counted(len(known) - 1, "other")}, and classified by a vote of its {min(NEIGHBOURS, len(known) - 1)} '
        'nearest ones.',
    ]
    cost = model_cost(model, seen_size(model, known.items))
    answers = embedding_verdict(rows, weak, table, about, [*asked.warnings, *data_notes(model, images)])
    of_embeddings, more = _embedding_parts(model, known, classes, asked)
    sections = [
        verdict_section(answers),
        headline_section(rows, model),
        confusion_section(confusions, known, classes),
        images_section(known, classes),
        classes_section(table),
        *of_embeddings,
        map_section(known, classes),
        cost_section(cost),
    ]
    numbers = dict(
        headline=rows,
        classes=table,
        confusions=confusions,
        **error_counts(known),
        **_said(answers, weak),
        **more,
        cost=cost.numbers,
    )
    return _parts(sections, numbers, known)


def _parts(sections: Sequence[Optional[Section]], numbers: dict[str, Any], known: EvaluatedImages) -> Parts:
    return Parts([section for section in sections if section is not None], numbers, len(known))


def _applied(calibration: Optional[Calibration]) -> Optional[dict[str, Any]]:
    if calibration is None:
        return None
    parts = ('scaling', 'risk', 'sets', 'skip_sure', 'images')
    numbers = {name: getattr(calibration, name) for name in parts}
    return dict(numbers, source=calibration.data.get('source'))


def _said(answers: Sequence[Answer], weak: Optional[WeakClasses] = None) -> dict[str, Any]:
    return dict(verdict=verdict_numbers(answers), **({} if weak is None else dict(weak_classes=weak._asdict())))


def _embedding_parts(
    model: HybridInferencer, known: EvaluatedImages, classes: Sequence[str], asked: Asked
) -> tuple[list[Optional[Section]], dict[str, Any]]:
    """Make the sections on embeddings: neighbours, norms and merged tokens."""
    found = find_neighbours(model, known, classes, asked.gallery, asked.batch_size, asked.workers)
    norms = read_norms(model, known, asked.batch_size, asked.workers)
    merging = read_merging(model, known.items)
    sections = [
        None if norms is None else norm_section(norms),
        None if merging is None else tokens_section(merging),
        None if found is None else neighbours_section(known, found, classes),
    ]
    numbers: dict[str, Any] = dict(neighbours=None, norm=None, merged_tokens=None)
    if found is not None:
        nearest = nearest_of_errors(known, found, classes)
        numbers['neighbours'] = dict(gallery=found.gallery, scores=found.scores, nearest_of_errors=nearest)
    if norms is not None:
        numbers['norm'] = dict(images=norms.images, severity=norms.rows, right=norms.right, spread=norms.spread)
    if merging is not None:
        numbers['merged_tokens'] = dict(merging._asdict(), images=len(merging.images))
    return sections, numbers
