"""Classify embeddings by their nearest neighbours: an accuracy without a classifier."""

import logging
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.metrics.nearest_neighbours import nearest_neighbours, vote_ranks
from hybridcls.registry import METRICS
from hybridcls.structures import UNKNOWN_LABEL

from .embedding_bank import TakesBank
from .prediction_fields import NO_IMAGE, class_label, embeddings_of
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['KNNAccuracy']

_VOTE_NUMBERS = 2**22  # booleans in one block of votes
_LAST = torch.iinfo(torch.int64).max  # the rank of a class without a vote


@METRICS.register_module()
class KNNAccuracy(TakesBank, BaseMetric):
    r"""Accuracy of a weighted vote of the ``k`` nearest neighbours, by cosine similarity of ``embedding``.

    With ``vote='softmax'`` a neighbour at similarity :math:`s` has the weight :math:`e^{s / \tau}`: Sec. 3.4 of
    `InstDisc <https://arxiv.org/abs/1805.01978>`_, and the protocol of DINO, whose :math:`\tau = 0.07` and k = 20 are
    the defaults here. With ``'uniform'`` all weights are equal.

    The neighbours come from a *bank*, in the usual protocol the embeddings of the training images, which
    ``EmbeddingBankHook`` computes before each evaluation (:meth:`set_bank`). Without a bank each image is classified by
    the other images of the evaluated set (leave one out): comparable between epochs, but not with numbers from a bank.
    The images that pad the last batch of several processes are dropped first. The main process searches block by
    block, on the GPU if there is one, in memory that does not grow with the set.

    An image that is marked as unknown (label -1) counts as wrong, as in ``Accuracy``. An image whose embedding is not
    finite counts as wrong, and is never a neighbour: a diverged model scores badly, not by chance.

    Samples are dicts with ``embedding`` (D,) of any floating dtype and ``gt_label`` (1,). Results are percentages:
    ``knn/top1`` ...; higher is better.

    Args:
        k (int): Number of neighbours. If there are fewer, all of them vote, with one warning. Defaults to 20.
        vote (str): ``'softmax'`` or ``'uniform'``. Defaults to ``'softmax'``.
        temperature (float): :math:`\tau > 0` of the softmax vote, unitless. Defaults to 0.07.
        topk (int | Sequence[int]): The target class is among the ``topk`` classes with most votes.
            Defaults to (1, ).
        device (str, optional): Where to compute. Defaults to None: the GPU if there is one.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'knn'``.
        confidence (float, optional), group (str, optional): Intervals, as in ``Accuracy``. Default to None.

    Raises:
        ValueError: If an argument is out of range, or the bank's embeddings have another dimension.
        MissingFieldError: If the samples lack ``embedding`` or a single ``gt_label``.

    Example:
        >>> metric = KNNAccuracy(k=1)
        >>> metric.set_bank(torch.eye(2), torch.tensor([4, 5]))
        >>> metric.process(None, [dict(embedding=torch.tensor([0.1, 0.9]), gt_label=torch.tensor([5]))])
        >>> metric.evaluate(size=1)
        {'knn/top1': 100.0}
    """

    default_prefix = 'knn'
    units = {'*': '%'}

    def __init__(
        self,
        k: int = 20,
        vote: str = 'softmax',
        temperature: float = 0.07,
        topk: Union[int, Sequence[int]] = (1,),
        device: Optional[str] = None,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_number('KNNAccuracy', 'k', k, 1, integer=True)
        check_choice('KNNAccuracy', 'vote', vote, ('softmax', 'uniform'))
        check_number('KNNAccuracy', 'temperature', temperature, 0, low_open=True)
        self.k = k
        self.vote = vote
        self.temperature = temperature
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for number in self.topk:
            check_number('KNNAccuracy', 'topk', number, 1, integer=True)
        self.bounds = ResultBounds('KNNAccuracy', confidence, group)
        self.directions = self.bounds.directions({f'top{number}': 'greater' for number in self.topk})
        self.device = device
        self._warned = False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding and the label of each sample."""
        labels = [class_label('KNNAccuracy', sample) for sample in data_samples]
        groups = [self.bounds.group_of(sample) for sample in data_samples]
        self.results += zip(embeddings_of('KNNAccuracy', data_samples), labels, groups, strict=True)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Search and vote. Runs in the main process.

        Returns:
            dict[str, float]: Percentages ``top1`` ...; empty, with a warning, if there is nothing to compare.
        """
        if not results:
            return without_result(self, NO_IMAGE)
        if self.bank is None and len(results) == 1:
            return without_result(self, 'A single image has no neighbours. Add EmbeddingBankHook, or more images.')
        queries = torch.from_numpy(np.stack([row for row, *_ in results]))
        labels = torch.tensor([label for _, label, _ in results])
        ranks = torch.full((len(results),), _LAST)
        finite = queries.isfinite().all(dim=1)
        ranks[finite] = self._ranks(queries[finite], labels[finite])
        ranks[labels == UNKNOWN_LABEL] = _LAST  # other unknown images are not of its class
        hits = {f'top{number}': ranks < number for number in self.topk}
        return self.bounds.of_images(self, hits, [group for *_, group in results])

    def _ranks(self, queries: Tensor, labels: Tensor) -> Tensor:
        """Rank the class of each query by the votes of its neighbours, int64 (N,)."""
        self.check_width(queries)
        bank, bank_labels = self.bank or (None, labels)
        k = self._clamped_k(len(bank_labels) - (bank is None))
        if k < 1 or not len(queries):  # no neighbour, or no query
            return torch.full((len(queries),), _LAST)
        similarity, index = nearest_neighbours(queries, bank, k, torch.device(self.device or get_device()))
        if self.vote == 'uniform':
            weights = torch.ones_like(similarity)
        else:
            # Relative to the nearest one: a small temperature does not overflow, and the ratios stay.
            weights = ((similarity - similarity[:, :1]) / self.temperature).exp()
        rows = max(1, _VOTE_NUMBERS // k**2)
        return torch.cat(
            [
                vote_ranks(bank_labels[part_index], part_weights, part_labels)
                for part_index, part_weights, part_labels in zip(
                    index.split(rows), weights.split(rows), labels.split(rows), strict=True
                )
            ]
        )

    def _clamped_k(self, available: int) -> int:
        if self.k > available and not self._warned:
            self._warned = True
            print_log(
                f'KNNAccuracy: k={self.k} exceeds the {available} candidates; all of them vote.',
                logger='current',
                level=logging.WARNING,
            )
        return min(self.k, available)
