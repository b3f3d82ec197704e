"""Classify images of an embedding model by their nearest neighbours."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from hybridcls.functional.metrics import nearest_neighbours

from .evaluated_images import UNKNOWN, EvaluatedImages

__all__ = ['NEIGHBOURS', 'with_votes']

NEIGHBOURS = 20
_TEMPERATURE = 0.07


def with_votes(images: EvaluatedImages) -> tuple[EvaluatedImages, tuple[str, ...]]:
    """Predict each labelled image by its 20 nearest other images, weighted as in ``KNNAccuracy``.

    Returns:
        tuple[EvaluatedImages, tuple[str, ...]]: The labelled images, with the share of the votes for each class as
        scores; and the classes, those of the labels.

    Raises:
        ValueError: If the images have fewer than two labels.
    """
    labels = [item.label for item in images.items]
    classes: tuple[str, ...] = tuple(sorted({label for label in labels if label}))
    if len(classes) < 2 or images.embeddings is None:
        raise ValueError(
            f'report: expected labelled images of two classes or more for a model of embeddings, got {len(classes)}. '
            'Name class folders, or a table with path and label.'
        )
    images.labels = np.array([classes.index(label) if label else UNKNOWN for label in _strings(labels)], dtype=np.int64)
    known = images.part(images.known)
    vectors = torch.from_numpy(np.nan_to_num(np.asarray(known.embeddings)))
    count = min(NEIGHBOURS, len(known) - 1)
    similarities, index = nearest_neighbours(vectors, None, count)
    weights = torch.softmax(similarities.double() / _TEMPERATURE, dim=1)
    votes = torch.zeros(len(known), len(classes), dtype=torch.float64)
    votes.scatter_add_(1, torch.from_numpy(known.labels)[index], weights)
    return replace(known, scores=votes.float().numpy()), classes


def _strings(labels: Sequence) -> list[str]:
    return [label or '' for label in labels]
