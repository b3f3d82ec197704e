"""Measure image retrieval by class, also for classes that were not trained on."""

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
from .result_names import without_result

__all__ = ['RetrievalMetric']

_BLOCK_QUERIES = 1024


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@k, R-precision and MAP@R of the evaluated images among themselves, by cosine similarity of ``embedding``.

    Each image is a query for its neighbours among all others. The classes may differ from those of the training,
    because no classifier is involved. Results are percentages, higher is better: ``recall@1``, ..., ``precision@r``,
    ``map@r`` (:mod:`hybridcls.functional.metrics.retrieval_scores`). (mmpretrain's RetrievalRecall expects the ranked
    lists of a retriever with its own gallery.)

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
    units = {'*': '%'}

    def __init__(
        self,
        topk: Union[int, Sequence[int]] = (1, 2, 4, 8),
        device: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        whole_list: bool = False,
        count_unmatched: bool = False,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for k in self.topk:
            check_number('RetrievalMetric', 'topk', k, 1, integer=True)
        self.device = device
        self.whole_list = whole_list
        self.count_unmatched = count_unmatched
        names = [*(f'recall@{k}' for k in self.topk), 'precision@r', 'map@r', *(('map', 'mrr') if whole_list else ())]
        self.directions = dict.fromkeys(names, 'greater')

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding and the label of each sample."""
        labels = [class_label('RetrievalMetric', sample) for sample in data_samples]
        self.results += zip(embeddings_of('RetrievalMetric', data_samples), labels, strict=True)

    def compute_metrics(self, results: list[tuple[np.ndarray, int]]) -> dict[str, float]:
        """Search and compare. Runs in the main process, with each image once."""
        labels = torch.tensor([label for _, label in results])
        _, of_image, counts = labels.unique(return_inverse=True, return_counts=True)
        matches = (counts[of_image] - 1).masked_fill(labels == UNKNOWN_LABEL, 0)
        queries = labels != UNKNOWN_LABEL if self.count_unmatched else matches > 0
        if not queries.any():
            no_pair = f'None of the {len(results)} images has another one of its class.'
            return without_result(self, no_pair if results else NO_IMAGE)
        embeddings = torch.from_numpy(np.stack([row for row, _ in results]))
        finite = embeddings.isfinite().all(1)
        searched, searched_labels = embeddings[finite], labels[finite]
        device = torch.device(self.device or get_device())
        most = int(max(matches.max(), *self.topk))
        hits = torch.zeros(len(results), most, dtype=torch.bool)
        k = min(most, len(searched) - 1)
        if k >= 1:
            _, index = nearest_neighbours(searched, None, k, device)
            hits[finite, :k] = searched_labels[index] == searched_labels.unsqueeze(1)
        scores = {f'recall@{number}': recall_at(hits, number).double() for number in self.topk}
        matches = matches.clamp(min=1)  # where there is none, there is no hit
        scores.update({'precision@r': precision_at_r(hits, matches), 'map@r': map_at_r(hits, matches)})
        if self.whole_list:
            scores['map'], scores['mrr'] = torch.zeros(2, len(results), dtype=torch.float64)
            scores['map'][finite], scores['mrr'][finite] = _of_whole_lists(
                searched, searched_labels, matches[finite], device
            )
        return {name: 100 * values[queries].mean().item() for name, values in scores.items()}


def _of_whole_lists(embeddings: Tensor, labels: Tensor, matches: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Average precision and reciprocal rank of each image among all others, float64 (N,), block by block."""
    zeros = torch.zeros(len(embeddings), dtype=torch.float64)
    if len(embeddings) < 2:
        return zeros, zeros
    precisions, ranks = [], []
    for rows in torch.arange(len(embeddings)).split(_BLOCK_QUERIES):
        _, index = nearest_neighbours(embeddings[rows], embeddings, len(embeddings), device)
        index = index[index != rows.unsqueeze(1)].view(len(rows), -1)  # without the image itself
        hits = labels[index] == labels[rows].unsqueeze(1)
        precisions.append(average_precision(hits, matches[rows]))
        ranks.append(reciprocal_rank(hits))
    return torch.cat(precisions), torch.cat(ranks)
