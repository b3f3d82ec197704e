"""The reference of an artifact: scores and class means of held-out images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from hybridcls.checks import counted, listed

from ..image_inputs import Item
from .measure import HEADLINES, artifact_metrics, metric_sentence
from .shipped.alarm import BINS, LEAST_IMAGES, bins_of, pixel_scores, scores_of
from .shipped.enroll import held_out
from .shipped.runtime import Model
from .sidecar import write_sidecar

__all__ = [
    'REFERENCE', 'add_reference', 'check_count', 'drift_entry', 'labels_of', 'outputs_of_images', 'read_reference',
    'reference_of', 'write_reference',
]  # fmt: skip

REFERENCE = 'reference.npz'
SIMILARITY_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
_MOST_NUMBERS = 2_000_000  # of class means, which take two bytes each
_BATCH = 32


def add_reference(folder: Path, items: Sequence[Item], alpha: float = 0.01) -> list[str]:
    """Add a reference of held-out images, which the artifact reads and predicts itself; return notes about them.

    Args:
        folder (Path): The artifact, complete but for this.
        items (Sequence[Item]): Images, with or without labels.
        alpha (float): Of the alarm, unless its user chooses another one. Defaults to 0.01.

    Raises:
        ValueError: If fewer than 20 can be read.
    """
    notes: list[str] = []
    model = Model(folder, check_files=False)
    sidecar = model.sidecar
    outputs, kept = outputs_of_images(model, items, notes)
    multi_label = bool(sidecar['multi_label'])
    labels = [-1] * len(kept) if multi_label else labels_of(kept, sidecar)
    others = {str(item.label) for item, label in zip(kept, labels, strict=True) if item.label and label < 0}
    if others and model.classes and not multi_label:
        notes.append(f'Labels that are no class of the model count as none: {listed(sorted(others), 5)}.')
    known = labels if max(labels, default=-1) >= 0 else None
    reference = reference_of(outputs, known, len(model.classes), multi_label)
    rows = (
        labels if model.classes and not multi_label else [0] * len(kept)
    )  # classes matter to one label an image alone
    if 'embedding' in outputs and max(rows, default=-1) >= 0:
        reference |= held_out(outputs, rows, model.decide(outputs), model.classes)
        notes.append(
            f'{REFERENCE} holds the embedding and the class of each of the {counted(len(kept), "held-out image")}, for '
            '`enroll`: whoever gets the artifact gets these too.'
        )
    write_reference(reference, folder)
    metrics = artifact_metrics(sidecar, outputs, [item.label for item in kept])
    write_sidecar(
        folder, sidecar | dict(drift=drift_entry(reference, alpha), metrics={**sidecar['metrics'], **metrics})
    )
    names = ', '.join(reference['names'].tolist())
    notes += [metric_sentence(name, found) for name, found in metrics.items() if name in HEADLINES]
    return [*notes, f'The alarm compares with {len(kept)} held-out images in {names}.']


def check_count(images: int) -> None:
    """Raise a ValueError unless there are enough held-out images."""
    if images < LEAST_IMAGES:
        raise ValueError(f'export: expected at least {LEAST_IMAGES} held-out images that can be read, got {images}.')


def labels_of(items: Sequence[Item], sidecar: Mapping[str, Any]) -> list[int]:
    """Return class numbers of images, by the names of the classes or of their folders; -1 for others.

    Of a model without classes the labels themselves are the classes, in alphabetical order.
    """
    own = sidecar['classes'] or sorted({item.label for item in items if item.label})
    names = (sidecar['folders'] or [], own)
    number_of = {name: number for known in names for number, name in enumerate(known)}
    return [number_of.get(str(item.label), -1) for item in items]


def outputs_of_images(
    model: Model, items: Sequence[Item], notes: list[str]
) -> tuple[dict[str, np.ndarray], list[Item]]:
    """Run an artifact on images; return its outputs without logits, with pixel scores, and the readable images."""
    parts: list[dict[str, np.ndarray]] = []
    kept: list[Item] = []
    unreadable: list[str] = []
    for first in range(0, len(items), _BATCH):
        batch = []
        for item in items[first : first + _BATCH]:
            try:
                batch.append(model.prepare(item.source))
                kept.append(item)
            except (ValueError, OSError) as error:
                unreadable.append(str(error))
        if batch:
            images = np.stack(batch)
            outputs = {
                name: values for name, values in model.run(images).items() if name != 'logits' and '.' not in name
            }
            parts.append({**outputs, **pixel_scores(images)})
    if unreadable:
        notes.append(f'{counted(len(unreadable), "image")} cannot be read, the first: {unreadable[0]}')
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}, kept


def reference_of(
    outputs: Mapping[str, np.ndarray],
    labels: Optional[Sequence[int]] = None,
    num_classes: int = 0,
    multi_label: bool = False,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Summarize the outputs of an exported graph for held-out images.

    The score ``distance`` looks at class means, and what made a mean lies nearer to it than later images do. So a
    random half of the images makes those means (``means``), and the other half says how far images lie from them.

    Args:
        outputs (Mapping): By name, of N images: see :func:`~hybridcls.apis.artifact.shipped.alarm.scores_of`.
        labels (Sequence[int], optional): Class numbers, -1 for none of the model's. Defaults to None: images have no
            labels. An image without label belongs to the class with the largest probability; without probabilities
            (SupCon) all to one group.
        num_classes (int): Of the model; 0: none. Defaults to 0.
        multi_label (bool): Whether each class has a probability of its own. Defaults to False.
        seed (int): Of the halves. Defaults to 0.

    Returns:
        dict[str, ndarray]: ``names`` (S,) of the scores; ``counts`` (S, BINS) uint32 of their rounded values;
        ``multi_label``; ``images``. With an embedding also ``means`` (G, D), float16, of a half, L2-normalized. With
        labels ``class_means`` (C, D), float16: the mean of each class's L2-normalized embeddings (its norm says how
        near to each other they lie); ``class_counts`` (C,) and ``class_similarity`` (C, 6), float32: quantiles
        (``SIMILARITY_QUANTILES``) of the cosine between an image and the mean of the others of its class, NaN below
        two images. Means of many classes are left out.

    Raises:
        ValueError: If there are fewer than 20 images, or an output is not finite.
    """
    total = len(next(iter(outputs.values()))) if outputs else 0
    check_count(total)
    rest, found = np.ones(total, bool), {}
    means = None
    if 'embedding' in outputs:
        directions = _normalized(outputs['embedding'].astype(np.float64))
        groups, count = _groups(outputs, labels, total)
        if count * directions.shape[1] <= _MOST_NUMBERS:
            rest = np.random.default_rng(seed).permutation(total) >= total // 2
            sums = _sums(directions[~rest], groups[~rest], count)
            means = found['means'] = _normalized(sums[sums.any(1)]).astype(np.float16)
        if labels is not None and num_classes and num_classes * directions.shape[1] <= _MOST_NUMBERS:
            found |= _class_summary(directions, np.asarray(labels), num_classes)
    scores = scores_of(outputs, means, multi_label)
    counts = [
        np.bincount(bins_of(values[rest] if name == 'distance' else values), minlength=BINS)
        for name, values in scores.items()
    ]
    return dict(
        names=np.array(list(scores)), counts=np.array(counts, np.uint32), multi_label=np.array(multi_label),
        images=np.array(total), **found,
    )  # fmt: skip


def write_reference(reference: Mapping[str, np.ndarray], folder: Path) -> None:
    """Write a reference into the folder of an artifact."""
    arrays: dict[str, Any] = dict(reference)
    np.savez_compressed(folder / REFERENCE, **arrays)


def read_reference(folder: Path) -> dict[str, np.ndarray]:
    """Read the reference of an artifact.

    Raises:
        ValueError: If the artifact has none.
    """
    if not (folder / REFERENCE).is_file():
        raise ValueError(
            f'reference: expected held-out images in the artifact {folder}, got none. Export it with --data HELD_OUT.'
        )
    with np.load(folder / REFERENCE, allow_pickle=False) as arrays:
        return dict(arrays)


def drift_entry(reference: Mapping[str, np.ndarray], alpha: float = 0.01) -> dict[str, Any]:
    """Return the sidecar's entry ``drift`` of a reference."""
    counts = dict(zip(reference['names'].tolist(), reference['counts'].sum(1).tolist(), strict=True))
    return dict(file=REFERENCE, alpha=alpha, images=int(reference['images']), scores=counts)


def _groups(outputs: Mapping[str, np.ndarray], labels: Optional[Sequence[int]], total: int) -> tuple[np.ndarray, int]:
    """Return a group for each image, and how many groups there may be."""
    predicted, count = np.zeros(total, np.int64), 1
    if 'probabilities' in outputs:
        predicted, count = outputs['probabilities'].argmax(1), outputs['probabilities'].shape[1]
    if labels is None:
        return predicted, count
    given = np.asarray(labels)
    return np.where(given >= 0, given, predicted), max(count, int(given.max()) + 1)


def _class_summary(directions: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    known = labels >= 0
    counts = np.bincount(labels[known], minlength=num_classes)
    sums = _sums(directions[known], labels[known], num_classes)
    similarity = np.full((num_classes, len(SIMILARITY_QUANTILES)), np.nan, np.float32)
    for number in np.flatnonzero(counts > 1):
        rows = directions[labels == number]
        others = _normalized(sums[number] - rows)
        similarity[number] = np.quantile((rows * others).sum(1), SIMILARITY_QUANTILES)
    return dict(
        class_means=(sums / np.maximum(counts, 1)[:, None]).astype(np.float16), class_counts=counts,
        class_similarity=similarity,
    )  # fmt: skip


def _sums(rows: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return sums


def _normalized(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
