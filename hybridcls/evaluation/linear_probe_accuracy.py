"""Classify embeddings by a logistic regression on a bank: linear probe accuracy."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.functional import fit_logistic_regression
from hybridcls.functional.metrics import target_ranks
from hybridcls.registry import METRICS

from .embedding_bank import TakesBank, bank_classes
from .prediction_fields import NO_IMAGE, class_label, embeddings_of
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['LinearProbeAccuracy']


@METRICS.register_module()
class LinearProbeAccuracy(TakesBank, BaseMetric):
    """Accuracy of a multinomial logistic regression that is fitted to a bank of embeddings.

    The bank, in the usual protocol the embeddings of the training images without augmentation, comes from
    ``EmbeddingBankHook``, which ``KNNAccuracy`` can share; without it there is no result. The fit is that of
    :func:`hybridcls.functional.fit_logistic_regression`, in float64 on the CPU: nothing is drawn.

    An image of a class that the bank does not have, or that is marked as unknown (label -1), counts as wrong, and one
    whose embedding is not finite too. Results are percentages: ``linear/top1`` ...; higher is better.

    Args:
        topk (int | Sequence[int]): The target class is among the k with the largest scores. Defaults to (1, ).
        inverse_penalty (float, optional): Of the squared weights, scikit-learn's C. Defaults to None: the best of four
            in three folds of the bank.
        normalize (bool): L2-normalize the embeddings first. Defaults to False.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'linear'``.
        confidence (float, optional), group (str, optional): Intervals, as in ``Accuracy``. Default to None.

    Raises:
        ValueError: If an argument is out of range, or the bank's embeddings have another dimension.
        MissingFieldError: If the samples lack ``embedding``, a single ``gt_label`` or the group.

    Example:
        >>> metric = LinearProbeAccuracy(inverse_penalty=1.0)
        >>> metric.set_bank(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([4, 4, 5, 5]))
        >>> metric.process(None, [dict(embedding=torch.tensor([2.5]), gt_label=torch.tensor([5]))])
        >>> metric.evaluate(size=1)
        {'linear/top1': 100.0}
    """

    default_prefix = 'linear'
    units = {'*': '%'}

    def __init__(
        self,
        topk: Union[int, Sequence[int]] = (1,),
        inverse_penalty: Optional[float] = None,
        normalize: bool = False,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        for number in self.topk:
            check_number('LinearProbeAccuracy', 'topk', number, 1, integer=True)
        if inverse_penalty is not None:
            check_number('LinearProbeAccuracy', 'inverse_penalty', inverse_penalty, 0, low_open=True)
        self.inverse_penalty = inverse_penalty
        self.normalize = normalize
        self.bounds = ResultBounds('LinearProbeAccuracy', confidence, group)
        self.directions = self.bounds.directions({f'top{number}': 'greater' for number in self.topk})

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embedding, the label and the group of each sample."""
        labels = [class_label('LinearProbeAccuracy', sample) for sample in data_samples]
        groups = [self.bounds.group_of(sample) for sample in data_samples]
        self.results += zip(embeddings_of('LinearProbeAccuracy', data_samples), labels, groups, strict=True)

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Fit and classify. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        if self.bank is None:
            return without_result(self, 'There is no bank to fit a classifier to: add EmbeddingBankHook.')
        embeddings = torch.from_numpy(np.stack([row for row, *_ in results])).double()
        self.check_width(embeddings)
        labels = torch.tensor([label for _, label, _ in results])
        bank, bank_labels = self.bank
        classes = bank_classes(bank_labels)
        if len(classes) < 2:
            return without_result(self, f'Expected a bank of at least two classes, got {len(classes)}.')
        known = bank_labels >= 0
        fit = fit_logistic_regression(
            self._scaled(bank[known].double()),
            torch.searchsorted(classes, bank_labels[known]),
            len(classes),
            self.inverse_penalty,
        )
        scores = self._scaled(embeddings) @ fit.weight.T + fit.bias  # NaN where an embedding is not finite
        place = torch.searchsorted(classes, labels).clamp(max=len(classes) - 1)
        ranks = target_ranks(scores, place.where(classes[place] == labels, -1))
        hits = {f'top{number}': ranks < number for number in self.topk}
        return self.bounds.of_images(self, hits, [group for *_, group in results])

    def _scaled(self, embeddings: Tensor) -> Tensor:
        return torch.nn.functional.normalize(embeddings) if self.normalize else embeddings
