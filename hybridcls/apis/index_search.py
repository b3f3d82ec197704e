"""Find the most similar images, or classes, of an index for queries: exactly, and in bounded memory."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.metrics.nearest_neighbours import nearest_neighbours
from hybridcls.functional.metrics.neighbour_order import NOT_THERE, keys_of, read_keys

from .class_pooling import POOLS, class_sums, class_vectors, first_of_each_class, pool_weights
from .embedding_index import EmbeddingIndex, check_same_model, resolved
from .faiss_candidates import FaissCandidates
from .index_file import mapped_copy
from .search_scores import SearchScores

__all__ = ['ENGINES', 'IndexSearch', 'Match']

ENGINES = ('exact', 'faiss')
_RECALLS = (1, 5, 10)
_LIST_NUMBERS = 2**23  # numbers in the ranked lists of some queries at once
_ROWS_AT_ONCE = 8192


class Match(NamedTuple):
    """One search result.

    Args:
        path (str): Its path, as the index has it.
        label (str): Its class; ``''`` if none is known.
        similarity (float): Cosine similarity in [-1, 1]: of the image or, with pooled classes, of the class, of which
            this image is the most similar one.
        distractor (bool): Whether it is one of the distractors.
        row (int): Its row in the index, or in that of the distractors.
    """

    path: str
    label: str
    similarity: float
    distractor: bool
    row: int


class IndexSearch:
    """Search an index; see ``hybridcls search``.

    Similarities are those of float64, rounded to float32; of equal ones the image that stands first in the index comes
    first. Block sizes, threads, the device and the engine change nothing.

    Args:
        index (EmbeddingIndex): The gallery.
        k (int): Matches of a query. Defaults to 5.
        pool (str): ``'none'``: images are found. Else classes are, and ``pool`` says how their images are compared
            (:data:`~hybridcls.apis.class_pooling.POOLS`); an image without label is a class of its own. Defaults to
            ``'none'``.
        distractors (EmbeddingIndex, optional): Images that compete and are of no class. Defaults to None.
        threshold (float, optional): Similarity below which nothing is a match. Defaults to None: that of the index, if
            it has one (``hybridcls calibrate``) for what ``pool`` compares.
        engine (str): ``'exact'``, or ``'faiss'``, which finds the candidates, and holds the vectors in memory. Defaults
            to ``'exact'``.
        device (str): Where to compute. Defaults to ``'cpu'``.

    Attributes:
        scores (SearchScores): Of the queries with labels, so far.

    Raises:
        ValueError: If the index is empty, an argument is out of range, or the distractors are of another model.
    """

    def __init__(
        self,
        index: EmbeddingIndex,
        k: int = 5,
        pool: str = 'none',
        distractors: Optional[EmbeddingIndex] = None,
        threshold: Optional[float] = None,
        engine: str = 'exact',
        device: Union[str, torch.device] = 'cpu',
    ) -> None:
        check_number('search', 'k', k, 1, integer=True)
        check_choice('search', 'pool', pool, POOLS)
        check_choice('search', 'engine', engine, ENGINES)
        if not len(index):
            raise ValueError(f'search: expected an index with images, and {index.path} is empty.')
        if distractors is not None:
            check_same_model(
                'search', dict(width=index.width) | index.about, index.path,
                dict(width=distractors.width) | distractors.about, distractors.path,
            )  # fmt: skip
        self.index, self.distractors, self.k, self.pool, self.device = index, distractors, k, pool, torch.device(device)
        self.threshold = _threshold_of(index, pool) if threshold is None else threshold
        self._size = len(index) + (len(distractors) if distractors is not None else 0)
        self._row_of = {path: row for row, path in enumerate(resolved(index.absolute_paths()))}
        self._names, classes, counts = np.unique(index.labels, return_inverse=True, return_counts=True)
        self._number_of = {str(name): number for number, name in enumerate(self._names) if name}
        labelled = torch.from_numpy(index.labels != '')
        self._class_of = torch.from_numpy(classes).where(labelled, -1)  # of each row of the index
        self._counts = torch.from_numpy(counts)
        if pool != 'none' and not self._number_of:
            raise ValueError(
                f'search: expected labels in {index.path} for pool={pool!r}, got none. Embed images in folders named '
                'as their classes, or a table with a column label.'
            )
        self.scores = SearchScores([one for one in (*_RECALLS, k) if one <= k], pool == 'none')
        vectors = torch.from_numpy(index.vectors)
        self._engine = FaissCandidates if engine == 'faiss' else None
        self._banks = []
        if pool in ('none', 'max'):
            self._banks.append(self._bank(vectors, torch.arange(len(index))))
        else:
            self._sums = class_sums(vectors.split(_ROWS_AT_ONCE), self._class_of, len(self._names), index.width, pool)
            of_classes = torch.tensor(sorted(self._number_of.values()))
            rows = class_vectors(self._sums[of_classes], self._counts[of_classes], pool)
            self._banks.append(self._bank(rows, of_classes + self._size))
            alone = (~labelled).nonzero().squeeze(1)
            if len(alone):
                copied = mapped_copy(
                    (len(alone), index.width), (index.vectors[part] for part in alone.split(_ROWS_AT_ONCE))
                )
                self._banks.append(self._bank(torch.from_numpy(copied), alone))
        if distractors is not None:
            there = torch.from_numpy(distractors.vectors)
            self._banks.append(self._bank(there, torch.arange(len(index), self._size)))

    def _bank(self, rows: Tensor, entries: Tensor) -> '_Bank':
        return _Bank(rows, entries, self._engine(rows) if self._engine is not None else None)

    def __call__(
        self,
        vectors: Union[np.ndarray, Tensor],
        paths: Optional[Sequence[str]] = None,
        labels: Optional[Sequence[str]] = None,
    ) -> list[list[Match]]:
        """Return the matches of each query, the most similar first; an empty list is "no match".

        Args:
            vectors (np.ndarray | Tensor): Embeddings of the queries, (N, D).
            paths (Sequence[str], optional): Their absolute paths: the image itself is no match for its own query.
                Defaults to None.
            labels (Sequence[str], optional): Their classes, for :attr:`scores`; ``''``: not known. Defaults to None.

        Raises:
            ValueError: If the embeddings are of another width.
        """
        queries = torch.as_tensor(vectors)
        if queries.dim() != 2 or queries.shape[1] != self.index.width:
            raise ValueError(
                f'search: expected queries (N, {self.index.width}), as {self.index.path} has them, got '
                f'{tuple(queries.shape)}. Embed them with the same checkpoint.'
            )
        if not len(queries):
            return []
        own = torch.tensor([self._row_of.get(path, -1) for path in resolved(paths or [''] * len(queries))])
        classes = torch.tensor([self._number_of.get(label, -1) for label in labels or [''] * len(queries)])
        known = torch.tensor([bool(label) for label in labels or [''] * len(queries)])
        matches = self._counts[classes] - ((own >= 0) & (self._class_of[own] == classes)).long()
        matches = matches.masked_fill(classes < 0, 0)
        wanted = self.k if self.pool != 'none' else max(self.k, int(matches.max()))
        found: list[list[Match]] = []
        for rows in torch.arange(len(queries)).split(max(1, _LIST_NUMBERS // (wanted + self.k))):
            keys, places, of_class = self._search(queries[rows], own[rows], wanted)
            if known[rows].any():
                asked = known[rows]
                hits = (of_class == classes[rows].unsqueeze(1)) & (of_class >= 0)
                self.scores.add(hits[asked], matches[rows][asked])
            found += self._named(keys[:, : self.k], places[:, : self.k])
        return found

    def located(self, match: Match) -> str:
        """Return the path of a match's image, resolved against the folder of its index."""
        of = self.distractors if match.distractor and self.distractors is not None else self.index
        return of.located(match.row)

    def _search(self, queries: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, images and classes of the matches, int64 (N, k') each, k' <= k."""
        if self.pool == 'none':
            keys = self._ranked(queries, own, k)
        elif self.pool == 'max':
            keys = self._ranked_classes(queries, own, k)
        else:
            return self._ranked_vectors(queries, own, k)
        places = _places(keys)
        return keys, places, self._classes_at(places)

    def _classes_at(self, places: Tensor) -> Tensor:
        inside = (places >= 0) & (places < len(self.index))
        return self._class_of[places.where(inside, 0)].where(inside, -1)

    def _ranked(self, queries: Tensor, left_out: Tensor, k: int) -> Tensor:
        """Rank the entries of all banks without each query's excluded one (-1: none); return the keys of the k best."""
        more = int((left_out >= 0).any())
        keys = []
        for bank in self._banks:
            padded = torch.nn.functional.pad(queries, (0, bank.rows.shape[1] - queries.shape[1]))
            most = min(k + more, len(bank.rows))
            similarity, index = nearest_neighbours(padded, bank.rows, most, self.device, bank.candidates)
            entries = bank.entries[index]
            of_bank = keys_of(similarity, entries)
            keys.append(of_bank.masked_fill((entries == left_out.unsqueeze(1)) | similarity.isinf(), NOT_THERE))
        joined = torch.cat(keys, 1)
        return joined.topk(min(k, joined.shape[1]), dim=1).values

    def _ranked_classes(self, queries: Tensor, own: Tensor, k: int) -> Tensor:
        """Rank classes by their most similar image; return the keys of these images.

        The list of images is made longer for those queries that have too few classes in it.
        """
        sizes = self._counts[sorted(self._number_of.values())].sort(descending=True).values
        enough = min(self._size, int(sizes[: k - 1].sum()) + max(0, k - 1 - len(sizes)) + 1)  # k classes for certain
        result = torch.full((len(queries), k), NOT_THERE)
        open_ = torch.arange(len(queries))
        length = min(enough, 8 * k)
        while len(open_):
            left = []
            for rows in open_.split(max(1, _LIST_NUMBERS // length)):
                keys = self._ranked(queries[rows], own[rows], length)
                places = _places(keys)
                classes = self._classes_at(places)
                classes = classes.where(classes >= 0, places + len(self._names))  # alone: a class of its own
                best, different = first_of_each_class(keys, classes, min(k, keys.shape[1]))
                result[rows, : best.shape[1]] = best
                left.append(rows[different < k])
            open_ = torch.cat(left) if length < enough else open_[:0]
            length = min(enough, 8 * length)
        return result

    def _ranked_vectors(self, queries: Tensor, own: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rank classes by their pooled vectors; a query in the index is left out of the vector of its class."""
        target_class = self._class_of[own].where(own >= 0, -1)
        keys = self._ranked(queries, torch.where(target_class >= 0, target_class + self._size, own), k)
        inside = (target_class >= 0).nonzero().squeeze(1)
        if len(inside):
            corrected = self._without_own(queries[inside], own[inside], target_class[inside])
            missing = torch.full((len(queries), 1), NOT_THERE)
            missing[inside] = corrected.unsqueeze(1)
            joined = torch.cat([keys, missing], 1)
            keys = joined.topk(min(k, joined.shape[1]), dim=1).values
        entries = _places(keys)
        classes = (entries - self._size).where(entries >= self._size, -1)
        return keys, self._most_similar(queries, own, entries, classes), classes

    def _without_own(self, queries: Tensor, own: Tensor, classes: Tensor) -> Tensor:
        """Return the keys of the classes that the queries belong to, pooled without the queries."""
        counts = self._counts[classes] - 1
        own_rows = torch.from_numpy(self.index.vectors[own.numpy()])
        sums = self._sums[classes] - pool_weights(own_rows, self.pool)
        rows = class_vectors(sums, counts.clamp(min=1), self.pool)
        padded = torch.nn.functional.pad(queries, (0, rows.shape[1] - queries.shape[1])).double()
        similarity = torch.nn.functional.cosine_similarity(padded, rows, eps=1e-12)
        return keys_of(similarity, classes + self._size).masked_fill(counts < 1, NOT_THERE)

    def _most_similar(self, queries: Tensor, own: Tensor, entries: Tensor, classes: Tensor) -> Tensor:
        """Return the image that represents each entry: itself, or the most similar one of a class."""
        places = entries.clone()
        order = self._class_of.argsort(stable=True)
        ends = self._class_of[order]
        for number in classes.unique().tolist():
            if number < 0:
                continue
            begin, end = torch.searchsorted(ends, number), torch.searchsorted(ends, number, right=True)
            row, column = (classes == number).nonzero(as_tuple=True)
            best = torch.full((len(row),), NOT_THERE)
            for part in order[begin:end].split(_ROWS_AT_ONCE):
                vectors = torch.from_numpy(self.index.vectors[part.numpy()])
                similarity, index = nearest_neighbours(queries[row], vectors, min(2, len(part)), self.device)
                keys = keys_of(similarity, part[index]).masked_fill(part[index] == own[row, None], NOT_THERE)
                best = torch.maximum(best, keys.amax(1))
            places[row, column] = _places(best)
        return places

    def _named(self, keys: Tensor, places: Tensor) -> list[list[Match]]:
        similarities = read_keys(keys)[0].tolist()
        lowest = -np.inf if self.threshold is None else self.threshold
        return [
            [self._match(place, similarity) for place, similarity in zip(*row, strict=True) if
             place >= 0 and similarity >= lowest]
            for row in zip(places.tolist(), similarities, strict=True)
        ]  # fmt: skip

    def _match(self, place: int, similarity: float) -> Match:
        is_distractor = place >= len(self.index)
        row = place - len(self.index) if is_distractor else place
        of = self.distractors if is_distractor and self.distractors is not None else self.index
        label = '' if is_distractor else str(of.labels[row])
        return Match(str(of.paths[row]), label, similarity, is_distractor, row)


def _threshold_of(index: EmbeddingIndex, pool: str) -> Optional[float]:
    """Return the threshold of an index; None if it was calibrated for another kind of similarity."""
    made_for = (index.about.get('threshold_for') or {}).get('pool', pool)
    alike = made_for == pool or {made_for, pool} == {'none', 'max'}  # a class is as near as its nearest image
    return index.about.get('threshold') if alike else None


class _Bank(NamedTuple):
    """Rows to search, with an entry number for each.

    Images of the index and the distractors are numbered first, then classes.
    """

    rows: Tensor
    entries: Tensor
    candidates: Optional[Callable[[Tensor, int], tuple[Tensor, Tensor]]]


def _places(keys: Tensor) -> Tensor:
    """Return the entry numbers of keys; -1 for no match."""
    return read_keys(keys)[1].masked_fill(keys == NOT_THERE, -1)
