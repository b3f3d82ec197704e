"""Measure image retrieval by class, in a gallery or among the images, also for classes not trained on."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.functional import average_precision, map_at_r, precision_at_r, recall_at, reciprocal_rank
from hybridcls.functional.metrics import nearest_neighbours
from hybridcls.registry import METRICS
from hybridcls.structures import UNKNOWN_LABEL

from .prediction_fields import NO_IMAGE, class_label, embeddings_of
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['RetrievalMetric']

_BLOCK_QUERIES = 1024
_COUNTS = ('queries', 'matched_queries', 'gallery')


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@k, R-precision and MAP@R by cosine similarity of ``embedding``, in a gallery or among the images.

    The classes may differ from those of the training, because no classifier is involved. Results are percentages,
    higher is better: ``recall@1``, ..., ``precision@r``, ``map@r``
    (:mod:`hybridcls.functional.metrics.retrieval_scores`). (mmpretrain's RetrievalRecall expects the ranked lists of a
    retriever with its own gallery.)

    Without a gallery each image is a query for its neighbours among all others. ``GalleryHook`` embeds a gallery before
    each evaluation, and the evaluated images are its queries. Then each result is over the queries that have an image
    of their class in the gallery, and a second one with the suffix ``_all`` over all queries, where those without a
    match count as 0; ``queries``, ``matched_queries`` and ``gallery`` count images. Gallery images of classes without a
    query, and unknown ones, distract.

    ``whole_list=True`` ranks all images for each query, and adds ``map``, the mean average precision of information
    retrieval, and ``mrr``, the mean reciprocal rank; equal similarities are in arbitrary order.

    An image whose class occurs once, or that is marked as unknown (label -1), is not a query; as a neighbour it counts
    as wrong. With ``count_unmatched=True`` an image whose class occurs once is a query with score 0, as in codes that
    divide by the number of all images. An image whose embedding is not finite has no hits and is never a neighbour. The
    search runs block by block, on the GPU if there is one, and keeps the best max(k, R) of each image: no matrix of all
    pairs.

    Args:
        topk (int | Sequence[int]): k of each recall. Defaults to (1, 2, 4, 8).
        whole_list (bool): Add ``map`` and ``mrr``. Time grows with the square of the number of images, as it does
            without, and memory on the device with 1024 times it. Defaults to False.
        count_unmatched (bool): Whether images without another one of their class count, as 0. Defaults to False.
        confidence (float, optional): Add the ends of intervals of this confidence (``recall@1_low``, ...) over the
            queries: exact ones of recall, bootstrap ones of the others. The gallery is taken as it is. Defaults to
            None.
        group (str, optional): Field of the samples that says which queries belong together; the intervals are
            bootstraps over these groups. Defaults to None.
        device (str, optional): Where to compute. Defaults to None: the GPU if there is one.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'retrieval'``.

    Raises:
        ValueError: If a ``topk`` is out of range.
        MissingFieldError: If the samples lack ``embedding`` or a single ``gt_label``.

    Example:
        >>> metric = RetrievalMetric(topk=1)
        >>> rows = torch.tensor([[1., 0.], [1., 0.1], [0., 1.], [0.1, 1.]])
        >>> metric.process(None, [dict(embedding=row, gt_label=torch.tensor([label]))
        ...                       for row, label in zip(rows, [5, 5, 7, 7])])
        >>> metric.evaluate(size=4)
        {'retrieval/recall@1': 100.0, 'retrieval/precision@r': 100.0, 'retrieval/map@r': 100.0}
    """

    default_prefix = 'retrieval'
    units = {**dict.fromkeys(_COUNTS, 'images'), '*': '%'}

    def __init__(
        self,
        topk: Union[int, Sequence[int]] = (1, 2, 4, 8),
        device: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        whole_list: bool = False,
        count_unmatched: bool = False,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for k in self.topk:
            check_number('RetrievalMetric', 'topk', k, 1, integer=True)
        self.device = device
        self.whole_list = whole_list
        self.count_unmatched = count_unmatched
        self.bounds = ResultBounds('RetrievalMetric', confidence, group)
        names = [*(f'recall@{k}' for k in self.topk), 'precision@r', 'map@r', *(('map', 'mrr') if whole_list else ())]
        better = {f'{name}{which}': 'greater' for name in names for which in ('', '_all')}
        self.directions = {**self.bounds.directions(better), **dict.fromkeys(_COUNTS)}
        self._gallery: Optional[tuple[Tensor, Tensor]] = None

    def set_gallery(self, embeddings: Tensor, labels: Tensor) -> None:
        """Set the gallery of the next evaluation.

        Args:
            embeddings (Tensor): ``(M, D)``, of any nonzero norm. Rows that are not finite are never found.
            labels (Tensor): ``(M,)`` int64, in the numbering of the queries' ``gt_label``; -1: unknown.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if embeddings.dim() != 2 or labels.shape != embeddings.shape[:1] or not len(labels):
            raise ValueError(
                f'RetrievalMetric.set_gallery: expected embeddings (M, D) and labels (M,) with M >= 1, got '
                f'{tuple(embeddings.shape)} and {tuple(labels.shape)}.'
            )
        self._gallery = embeddings.detach().cpu(), labels.detach().cpu().long()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding, the label and the group of each sample."""
        labels = [class_label('RetrievalMetric', sample) for sample in data_samples]
        groups = [self.bounds.group_of(sample) for sample in data_samples]
        self.results += zip(embeddings_of('RetrievalMetric', data_samples), labels, groups, strict=True)

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate as mmengine's BaseMetric does, and drop the gallery: its weights are those of one epoch."""
        try:
            return super().evaluate(size)
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop the gallery."""
        self._gallery = None

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Search and compare. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        labels = torch.tensor([label for _, label, _ in results])
        among = labels if self._gallery is None else self._gallery[1]
        numbers, counts = among.unique(return_counts=True)
        place = torch.searchsorted(numbers, labels).clamp(max=len(numbers) - 1)
        matches = counts[place].masked_fill((numbers[place] != labels) | (labels == UNKNOWN_LABEL), 0)
        if self._gallery is None:
            matches = (matches - 1).clamp(min=0)  # without the image itself
        known = labels != UNKNOWN_LABEL
        queries = known if self.count_unmatched else matches > 0
        if not queries.any():
            other = (
                f'an image of its class in the gallery of {len(among)}' if self._gallery else 'another one of its class'
            )
            return without_result(self, f'None of the {len(results)} images has {other}.')
        embeddings = torch.from_numpy(np.stack([row for row, *_ in results]))
        scores = self._scores(embeddings, labels, matches)
        groups = [group for *_, group in results]
        found = self._averaged(scores, queries, groups)
        if self._gallery is not None:
            every = {
                f'{name}_all': values.where(matches > 0, torch.zeros_like(values)) for name, values in scores.items()
            }
            found.update(self._averaged(every, known, groups))
            found.update(zip(_COUNTS, (int(known.sum()), int((matches > 0).sum()), len(among)), strict=True))
        return found

    def _scores(self, embeddings: Tensor, labels: Tensor, matches: Tensor) -> dict[str, Tensor]:
        """Return each score of each query, (N,)."""
        finite = embeddings.isfinite().all(1)
        searched, searched_labels = embeddings[finite], labels[finite]
        if self._gallery is None:
            gallery, gallery_labels = None, searched_labels
        else:
            gallery, gallery_labels = self._gallery
            if gallery.shape[1] != embeddings.shape[1]:
                raise ValueError(
                    f'RetrievalMetric: expected a gallery of {embeddings.shape[1]}-dimensional embeddings, as the '
                    f'queries, got {gallery.shape[1]}.'
                )
            visible = gallery.isfinite().all(1)
            gallery, gallery_labels = gallery[visible], gallery_labels[visible]
        device = torch.device(self.device or get_device())
        most = max(int(matches.max()), *self.topk)
        hits = torch.zeros(len(embeddings), most, dtype=torch.bool)
        k = min(most, len(gallery_labels) - (gallery is None))
        if k >= 1 and len(searched):
            _, index = nearest_neighbours(searched, gallery, k, device)
            hits[finite, :k] = gallery_labels[index] == searched_labels.unsqueeze(1)
            hits[labels == UNKNOWN_LABEL] = False
        scores = {f'recall@{number}': recall_at(hits, number) for number in self.topk}
        matches = matches.clamp(min=1)  # where there is none, there is no hit
        scores.update({'precision@r': precision_at_r(hits, matches), 'map@r': map_at_r(hits, matches)})
        if self.whole_list:
            scores['map'], scores['mrr'] = torch.zeros(2, len(embeddings), dtype=torch.float64)
            scores['map'][finite], scores['mrr'][finite] = _of_whole_lists(
                searched, searched_labels, gallery, gallery_labels, matches[finite], device
            )
        return scores

    def _averaged(self, scores: dict[str, Tensor], chosen: Tensor, groups: list) -> dict[str, float]:
        inside = [groups[place] for place in chosen.nonzero().flatten().tolist()]
        return self.bounds.of_images(self, {name: values[chosen] for name, values in scores.items()}, inside)


def _of_whole_lists(
    queries: Tensor,
    labels: Tensor,
    gallery: Optional[Tensor],
    gallery_labels: Tensor,
    matches: Tensor,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return average precision and reciprocal rank over the complete ranking, float64 (N,), block by block.

    Without a gallery each query is searched among the others.
    """
    among = queries if gallery is None else gallery
    zeros = torch.zeros(len(queries), dtype=torch.float64)
    if not len(queries) or len(among) < (2 if gallery is None else 1):
        return zeros, zeros
    precisions, ranks = [], []
    for rows in torch.arange(len(queries)).split(_BLOCK_QUERIES):
        _, index = nearest_neighbours(queries[rows], among, len(among), device)
        if gallery is None:
            index = index[index != rows.unsqueeze(1)].view(len(rows), -1)  # without the image itself
        hits = gallery_labels[index] == labels[rows].unsqueeze(1)
        precisions.append(average_precision(hits, matches[rows]))
        ranks.append(reciprocal_rank(hits))
    return torch.cat(precisions), torch.cat(ranks)
