"""Measure image retrieval by class, also for classes that were not trained on."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric

from hybridcls.checks import check_number
from hybridcls.functional import map_at_r, precision_at_r, recall_at
from hybridcls.functional.metrics import nearest_neighbours
from hybridcls.registry import METRICS
from hybridcls.structures import UNKNOWN_LABEL

from .prediction_fields import NO_IMAGE, class_label, embeddings_of
from .result_names import without_result

__all__ = ['RetrievalMetric']


@METRICS.register_module()
class RetrievalMetric(BaseMetric):
    """Recall@k, R-precision and MAP@R of the evaluated images among themselves, by cosine similarity of ``embedding``.

    Each image is a query for its neighbours among all others. The classes may differ from those of the training,
    because no classifier is involved. Results are percentages, higher is better: ``recall@1``, ..., ``precision@r``,
    ``map@r`` (:mod:`hybridcls.functional.metrics.retrieval_scores`). (mmpretrain's RetrievalRecall expects the ranked
    lists of a retriever with its own gallery.)

    An image whose class occurs once, or that is marked as unknown (label -1), is not a query; as a neighbour it counts
    as wrong. An image whose embedding is not finite has no hits and is never a neighbour. The search runs block by
    block, on the GPU if there is one, and keeps the best max(k, R) of each image: no matrix of all pairs.

    Args:
        topk (int | Sequence[int]): k of each recall. Defaults to (1, 2, 4, 8).
        device (str, optional): Where to compute. Defaults to None: the GPU if there is one.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): In front of the names. Defaults to None, which means ``'retrieval'``.

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
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for k in self.topk:
            check_number('RetrievalMetric', 'topk', k, 1, integer=True)
        self.device = device
        names = [*(f'recall@{k}' for k in self.topk), 'precision@r', 'map@r']
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
        queries = matches > 0
        if not queries.any():
            no_pair = f'None of the {len(results)} images has another one of its class.'
            return without_result(self, no_pair if results else NO_IMAGE)
        embeddings = torch.from_numpy(np.stack([row for row, _ in results]))
        finite = embeddings.isfinite().all(1)
        most = int(max(matches.max(), *self.topk))
        hits = torch.zeros(len(results), most, dtype=torch.bool)
        k = min(most, int(finite.sum()) - 1)
        if k >= 1:
            _, index = nearest_neighbours(embeddings[finite], None, k, torch.device(self.device or get_device()))
            hits[finite, :k] = labels[finite][index] == labels[finite].unsqueeze(1)
        hits, matches = hits[queries], matches[queries]
        scores = {f'recall@{number}': recall_at(hits, number).double() for number in self.topk}
        scores.update({'precision@r': precision_at_r(hits, matches), 'map@r': map_at_r(hits, matches)})
        return {name: 100 * values.mean().item() for name, values in scores.items()}
