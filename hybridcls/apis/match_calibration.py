"""Find the similarity at and above which an entry of an index may be a match, with a guarantee."""

from collections import Counter
from typing import NamedTuple, Optional

import torch

from hybridcls.functional.calibration import conformal_threshold, images_for_sets

from .embedding_index import EmbeddingIndex, check_same_model
from .index_file import write_index_file
from .index_search import IndexSearch

__all__ = ['MatchCalibration', 'calibrate_matches', 'write_threshold']

_QUERIES_AT_ONCE = 512


class MatchCalibration(NamedTuple):
    """A threshold for the matches of an index.

    Args:
        threshold (float, optional): A match has at least this similarity; None: there are too few queries.
        alpha (float): How often the right match may be missing.
        pool (str): What is compared: images (``'none'``) or classes; see :class:`IndexSearch`.
        queries (int): Queries with a match in the index.
        without (int): Labelled queries without one.
        rejected (float, optional): Of those without one, the share that gets "no match".
        missing (int): How many more queries with a match it takes.
    """

    threshold: Optional[float]
    alpha: float
    pool: str
    queries: int
    without: int
    rejected: Optional[float]
    missing: int = 0


def calibrate_matches(
    index: EmbeddingIndex, queries: EmbeddingIndex, alpha: float, pool: str = 'none'
) -> MatchCalibration:
    """Find the threshold from which on sets of matches hold a right one with a probability of at least 1 - alpha.

    That of queries drawn as these were, of classes that are in the index: :func:`conformal_threshold` of each query's
    similarity to the most similar image of its class (or, with pooled classes, to its class). A query that is in the
    index itself is compared with the others.

    Args:
        index (EmbeddingIndex): The gallery, with labels.
        queries (EmbeddingIndex): With labels, of the same model.
        alpha (float): In (0, 1).
        pool (str): As in :class:`IndexSearch`. Defaults to ``'none'``.

    Raises:
        ValueError: If labels are missing, no query's class is in the index, or the models differ.
    """
    check_same_model('calibrate', index.described, index.path, queries.described, queries.path)
    for of in (index, queries):
        if not (of.labels != '').any():
            raise ValueError(
                f'calibrate: expected labels in {of.path}, got none. Embed images in folders named as their classes, '
                'or a table with a column label.'
            )
    classes = len({*index.labels.tolist()} - {''})
    alone = int((index.labels == '').sum())  # classes of their own, that may be nearer
    search = IndexSearch(index, classes + alone, 'max' if pool == 'none' else pool, threshold=-2.0)
    counts = Counter(index.labels.tolist())
    label_at = dict(zip(index.absolute_paths(), index.labels.tolist(), strict=True))
    places = queries.absolute_paths()
    right: list[float] = []
    others: list[float] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        labels = queries.labels[rows].tolist()
        found = search(queries.vectors[rows], places[rows])
        for label, place, matches in zip(labels, places[rows], found, strict=True):
            if not label:
                continue
            if counts[label] > (label_at.get(place) == label):  # without itself
                # Where embeddings are not finite there is a match that is never found.
                right.append(next((match.similarity for match in matches if match.label == label), -2.0))
            else:
                others.append(matches[0].similarity if matches else -2.0)
    if not right:
        raise ValueError(
            f'calibrate: expected queries of classes in {index.path}, got {len(others)} of others in {queries.path}.'
        )
    threshold = conformal_threshold(torch.tensor(right), alpha)
    rejected = None
    if threshold is not None and others:
        rejected = sum(similarity < threshold for similarity in others) / len(others)
    missing = max(0, images_for_sets(alpha) - len(right))
    return MatchCalibration(threshold, alpha, pool, len(right), len(others), rejected, missing)


def write_threshold(index: EmbeddingIndex, found: MatchCalibration) -> None:
    """Write the index again with the threshold, which ``hybridcls search`` takes; atomically."""
    note = dict(alpha=found.alpha, pool=found.pool, queries=found.queries)
    about = index.about | dict(width=index.width, threshold=found.threshold, threshold_for=note)
    write_index_file(index.path, about, index.parts(), len(index))
