"""Find the most similar gallery images for each image of a report."""

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from hybridcls.functional import map_at_r, recall_at
from hybridcls.functional.metrics.intervals import mean_interval, share_interval

from ..embedding_index import EmbeddingIndex, about_model, absolute, check_same_model, compatible_width
from ..image_inputs import Item, read_inputs
from ..index_file import FORMATS
from ..index_search import IndexSearch, Match
from ..inferencer import HybridInferencer
from ..search_scores import SearchScores
from .evaluated_images import EvaluatedImages, evaluate_images

__all__ = ['Neighbours', 'check_gallery', 'find_neighbours']

_SHOWN = 6


class Neighbours(NamedTuple):
    """The nearest neighbours of all images.

    Args:
        gallery (str): A sentence: what they were searched in.
        images (int): How many images that has.
        matches (list[list[Match]]): Of each image, the most similar first.
        pictures (list[list[Item]]): Where these are.
        scores (list[dict]): ``name``, ``value``, ``low``, ``high`` in percent, ``queries`` and ``without_match``.
    """

    gallery: str
    images: int
    matches: list[list[Match]]
    pictures: list[list[Item]]
    scores: list[dict[str, Any]]


def check_gallery(model: HybridInferencer, gallery: str) -> None:
    """Raise early if the gallery is missing, or is an index of another model.

    Raises:
        FileNotFoundError, ValueError: As :func:`find_neighbours`.
    """
    if _is_index(gallery):
        _width(model, EmbeddingIndex(os.path.expanduser(gallery), 'report'), about_model(model))
    else:
        read_inputs(gallery, 'report')


def find_neighbours(
    model: HybridInferencer,
    known: EvaluatedImages,
    classes: Sequence[str],
    gallery: Optional[str] = None,
    batch_size: Optional[int] = None,
    workers: Optional[int] = None,
) -> Optional[Neighbours]:
    """Search a gallery for each image; an image is not its own neighbour.

    Args:
        model (HybridInferencer): Whose embeddings these are.
        known (EvaluatedImages): The queries.
        classes (Sequence[str]): The names of their labels.
        gallery (str, optional): An index of ``hybridcls embed``, or images, whose first folders are their classes.
            Defaults to None: the queries themselves, each without itself.
        batch_size (int, optional), workers (int, optional): As for a call of the model.

    Returns:
        Neighbours: None of a model without embeddings, or of a single image without a gallery.

    Raises:
        FileNotFoundError: If there are no such images.
        ValueError: If the index is empty, or of another model.
    """
    if known.embeddings is None or (gallery is None and len(known) < 2):
        return None
    labels = [classes[label] for label in known.labels]
    with TemporaryDirectory() as folder:
        if gallery is not None and _is_index(gallery):
            index = EmbeddingIndex(os.path.expanduser(gallery), 'report')
            what = f'the index {gallery}'
        else:
            images = known
            if gallery is not None:
                images = evaluate_images(model, list(read_inputs(gallery, 'report').items), batch_size, workers)
            index = _index_of(model, images, os.path.join(folder, 'gallery.npz'))
            what = 'the other images of this report' if gallery is None else f'the images of {gallery}'
        return _search(model, known, labels, index, f'{what} ({len(index)})')


def _is_index(gallery: str) -> bool:
    return gallery.lower().endswith((*FORMATS, '.npy'))


def _width(model: HybridInferencer, index: EmbeddingIndex, about: dict[str, Any]) -> Optional[int]:
    """Return how many dimensions are compared, None for all; raise if the index is of another model."""
    width = compatible_width(index.about, about)
    if width is None:
        check_same_model('report', index.described, index.path, about, f'the model of {model.checkpoint_path}')
    return width


def _index_of(model: HybridInferencer, images: EvaluatedImages, path: str) -> EmbeddingIndex:
    rows = list({_place(item): row for row, item in enumerate(images.items)}.values())  # a table may name one twice
    vectors: Any = images.embeddings
    items = [images.items[row] for row in rows]
    EmbeddingIndex.write(
        path, [_place(item) for item in items], vectors[rows], [item.label or '' for item in items], about_model(model)
    )
    return EmbeddingIndex(path, 'report')


def _place(item: Item) -> str:
    return absolute(str(item.source), os.getcwd())


def _search(
    model: HybridInferencer, known: EvaluatedImages, labels: Sequence[str], index: EmbeddingIndex, what: str
) -> Neighbours:
    vectors: Any = known.embeddings
    about = about_model(model) | dict(width=vectors.shape[1])
    width = _width(model, index, about)
    index.labels = np.array([model.class_of(label) or label for label in index.labels.tolist()], str)
    search = IndexSearch(index, _SHOWN, threshold=-2.0)
    search.scores = scores = _QueryScores()
    matches = search(vectors[:, :width], [_place(item) for item in known.items], labels)
    pictures = [[Item(match.path, search.located(match)) for match in row] for row in matches]
    return Neighbours(what, len(index), matches, pictures, scores.rows())


class _QueryScores(SearchScores):
    """Retrieval scores that are kept per query, for confidence intervals."""

    def __init__(self) -> None:
        super().__init__([1])
        self._found: list[Tensor] = []
        self._precision: list[Tensor] = []

    def add(self, hits: Tensor, matches: Tensor) -> None:
        """Count some queries."""
        super().add(hits, matches)
        asked = matches > 0
        self._found.append(recall_at(hits[asked], 1))
        self._precision.append(map_at_r(hits[asked], matches[asked]))

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores with their intervals; an empty list if no query has a match."""
        if not self.queries:
            return []
        found, precision = torch.cat(self._found), torch.cat(self._precision)
        of_found = share_interval(int(found.sum()), len(found))
        of_precision = mean_interval(precision)
        counts = dict(queries=self.queries, without_match=self.without_match)
        return [
            dict(name='recall@1', value=100 * float(found.double().mean()), low=100 * of_found.low,
                 high=100 * of_found.high, **counts),
            dict(name='MAP@R', value=100 * float(precision.mean()), low=100 * float(of_precision.low),
                 high=100 * float(of_precision.high), **counts),
        ]  # fmt: skip
