"""Top-k accuracy that also works with fewer than k classes."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from mmpretrain.evaluation import Accuracy as _Accuracy

from hybridcls.functional.metrics import target_ranks
from hybridcls.registry import METRICS

from .mmpretrain_metrics import SingleLabelled
from .prediction_fields import NO_IMAGE
from .result_bounds import ResultBounds
from .result_names import without_result

__all__ = ['Accuracy']


@METRICS.register_module()
class Accuracy(SingleLabelled, _Accuracy):
    """mmpretrain's ``Accuracy`` in percent, with all of its options, for any number of classes.

    With fewer than k classes, mmpretrain's top-k accuracy raises an error after the first epoch. Here it is left out of
    the results, with one warning: a config with ``topk=(1, 5)`` can be inherited for four classes.

    Of equal scores the class with the smaller number comes first, as in ``argmax``. An image with a score that is NaN
    is wrong.

    Args:
        topk (int | Sequence[int]): The target class is among the k with the largest scores. Defaults to (1, ).
        thrs (float | None | Sequence[float | None]): Predictions with a smaller score are wrong; None: no threshold.
            Defaults to 0.
        collect_device (str), prefix (str, optional): As in mmengine's BaseMetric.
        confidence (float, optional): Add the ends of the interval of this confidence (``top1_low``, ``top1_high``): the
            exact one of Clopper and Pearson. Defaults to None.
        group (str, optional): Field of the samples whose images belong together (a patient, a burst of photographs):
            the interval is a bootstrap over these groups. Defaults to None.

    Raises:
        MissingFieldError: If a sample has no label, or no group.

    Example:
        >>> metric = Accuracy(topk=(1, 5))
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.1, 0.9]), gt_label=torch.tensor([1]))])
        >>> metric.evaluate(size=1)
        {'accuracy/top1': 100.0}
    """

    topk: tuple[int, ...]
    units = {'*': '%'}

    def __init__(
        self,
        topk: Union[int, Sequence[int]] = (1,),
        thrs: Union[float, Sequence[Optional[float]], None] = 0.0,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
        confidence: Optional[float] = None,
        group: Optional[str] = None,
    ) -> None:
        super().__init__(topk, thrs, collect_device, prefix)
        self.bounds = ResultBounds('Accuracy', confidence, group)

    @property
    def directions(self) -> dict[str, Optional[str]]:
        """The direction of each result: higher is better, for each k and threshold."""
        return self.bounds.directions({f'top{k}{threshold}': 'greater' for k in self.topk for threshold in ('', '_*')})

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the scores, the label and the group of each image."""
        kept = len(self.results)
        super().process(data_batch, data_samples)
        for result, sample in zip(self.results[kept:], data_samples, strict=True):
            result['group'] = self.bounds.group_of(sample)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute each k that is at most the number of classes. Runs in the main process, with each image once."""
        if not results:
            return without_result(self, NO_IMAGE)
        labels = torch.cat([result['gt_label'] for result in results]).long()  # of any dtype of integers
        groups = [result.get('group') for result in results]
        if 'pred_score' not in results[0]:
            hits = torch.cat([result['pred_label'] for result in results]) == labels
            return self.bounds.of_images(self, dict(top1=hits), groups)
        scores = torch.stack([result['pred_score'] for result in results])
        classes = scores.shape[1]
        left_out = [f'top{k}' for k in self.topk if k > classes]
        if left_out:
            without_result(self, f'There are {classes} classes.', left_out)
        ranks = target_ranks(scores, labels)
        of_target = scores.gather(1, labels.clamp(0, classes - 1).unsqueeze(1)).squeeze(1)
        values = {}
        for k in self.topk:
            for threshold in self.thrs:
                name = f'top{k}'
                if len(self.thrs) > 1:
                    name += '_no-thr' if threshold is None else f'_thr-{threshold:.2f}'
                if k <= classes:
                    values[name] = ranks < k if threshold is None else (ranks < k) & (of_target > threshold)
        return self.bounds.of_images(self, values, groups)
