"""Find slices of held-out images in which the model errs, errs with confidence, or rejects."""

from collections.abc import Sequence

import numpy as np

from hybridcls.checks import counted
from hybridcls.datasets.image_measures import measure_images
from hybridcls.datasets.near_duplicates import groups_of_near_duplicates

from ..inferencer import HybridInferencer
from ..report.evaluated_images import EvaluatedImages
from ..report.stream_readings import stream_shares
from .metadata import metadata_attributes
from .slice_attributes import (
    Attribute,
    class_attribute,
    cluster_attributes,
    folder_attributes,
    look_attributes,
)
from .slices import SliceSearch, find_slices

__all__ = ['OUTCOMES', 'held_out_slices', 'image_attributes']

OUTCOMES = dict(wrong='wrong', overconfident='wrong, and surely so', abstained='not answered')
"""By outcome the words for images that have it."""
_ANSWERED = 0.8  # of the images, where no calibration says which


def image_attributes(
    model: HybridInferencer, images: EvaluatedImages, metadata: Sequence[str] = ()
) -> tuple[list[Attribute], list[str]]:
    """Return all known attributes of images, whether they are predicted wrongly left aside.

    Args:
        model (HybridInferencer): For the streams, and names.
        images (EvaluatedImages): With labels of the model's classes.
        metadata (Sequence[str]): Tables with a column ``path``. Defaults to none.

    Returns:
        tuple[list[Attribute], list[str]]: The attributes, and sentences about what is not known.
    """
    paths = [item.path for item in images.items]
    found: list[Attribute] = []
    notes: list[str] = []
    for table in metadata:
        columns, more = metadata_attributes(table, paths)
        found += columns
        notes += more
    found += folder_attributes(paths, images.labels)
    found += look_attributes(measure_images([item.source for item in images.items]))
    found.append(class_attribute(images.labels, model.classes))
    if images.embeddings is not None:
        found += cluster_attributes(images.embeddings, images.labels, model.classes)
    shares = None if images.streams is None else stream_shares(model, images.streams)[0]
    if images.streams is not None and shares is not None:
        first, second = images.streams.names
        found.append(Attribute(f'share of {first}', shares, f'{second}-leaning', f'{first}-leaning', inner=True))
    return found, notes


def held_out_slices(
    model: HybridInferencer,
    images: EvaluatedImages,
    metadata: Sequence[str] = (),
    rate: float = 0.05,
) -> SliceSearch:
    """Find slices of held-out images with an excess of errors, of confident errors, or of rejections.

    An image is answered if its confidence is at least the threshold of the model's calibration, without one that of the
    80 % most confident; it is overconfident if it is answered, and wrong. Of images that nearly equal each other one is
    counted: they are wrong together.

    Args:
        model (HybridInferencer): With classes.
        images (EvaluatedImages): Held-out ones, with labels of its classes.
        metadata (Sequence[str]): Tables with a column ``path``. Defaults to none.
        rate (float): At most with this probability there is any slice where all of this says nothing. Defaults to 0.05.

    Returns:
        SliceSearch: ``members`` are positions in ``images``.
    """
    notes = []
    groups = groups_of_near_duplicates([item.path or f'#{row}' for row, item in enumerate(images.items)])
    first = np.unique(groups, return_index=True)[1]
    if len(first) < len(images):
        notes.append(
            f'Not counted, since they nearly equal another one: '
            f'{counted(len(images) - len(first), "image", of=len(images))}.'
        )
    first = np.sort(first)
    images = images.part(first)
    attributes, more = image_attributes(model, images, metadata)
    wrong = images.predicted != images.labels
    risk = None if model.calibration is None else model.calibration.calibration.risk
    threshold = np.quantile(images.confidence, 1 - _ANSWERED) if risk is None else risk['threshold']
    answered = images.confidence >= threshold
    what = 'that of 80 % of the images' if risk is None else 'of the calibration'
    notes.append(f'An image is answered from a confidence of {threshold:.4f} on ({what}).')
    outcomes = dict(wrong=wrong, overconfident=wrong & answered, abstained=~answered)
    search = find_slices(attributes, outcomes, images.labels, rate)
    for one in search.found:
        one.members = first[one.members]
    search.notes = [*notes, *more, *search.notes]
    return search
