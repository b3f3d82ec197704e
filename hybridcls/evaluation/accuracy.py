"""Top-k accuracy that also works with fewer than k classes."""

from typing import Any, Union

from mmpretrain.evaluation import Accuracy as _Accuracy

from hybridcls.registry import METRICS

from .mmpretrain_metrics import SingleLabelled
from .prediction_fields import NO_IMAGE
from .result_names import without_result

__all__ = ['Accuracy']


@METRICS.register_module()
class Accuracy(SingleLabelled, _Accuracy):
    """mmpretrain's ``Accuracy`` in percent, with all of its options, for any number of classes.

    With fewer than k classes, mmpretrain's top-k accuracy raises an error after the first epoch. Here it is left out of
    the results, with one warning: a config with ``topk=(1, 5)`` can be inherited for four classes.

    Args:
        topk (int | Sequence[int]): The target class is among the k with the largest scores. Defaults to (1, ).
        thrs (float | None | Sequence[float | None]): Predictions with a smaller score are wrong; None: no threshold.
            Defaults to 0.
        collect_device (str), prefix (str, optional): As in mmengine's BaseMetric.

    Raises:
        MissingFieldError: If a sample has no label.

    Example:
        >>> import torch
        >>> metric = Accuracy(topk=(1, 5))
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.1, 0.9]), gt_label=torch.tensor([1]))])
        >>> metric.evaluate(size=1)
        {'accuracy/top1': 100.0}
    """

    topk: tuple[int, ...]
    units = {'*': '%'}

    @property
    def directions(self) -> dict[str, str]:
        """Higher is better, for each k and threshold."""
        return {f'top{k}{thresholds}': 'greater' for k in self.topk for thresholds in ('', '_*')}

    def compute_metrics(self, results: list[dict]) -> dict[str, Union[float, Any]]:
        """Compute each k that is at most the number of classes."""
        if not results:
            return without_result(self, NO_IMAGE)
        asked, classes = self.topk, len(results[0].get('pred_score', ()))
        left_out = [f'top{k}' for k in asked if 0 < classes < k]  # without scores, mmpretrain compares labels
        if left_out:
            without_result(self, f'There are {classes} classes.', left_out)
        if len(left_out) == len(asked):
            return {}
        self.topk = tuple(k for k in asked if f'top{k}' not in left_out)
        try:
            return super().compute_metrics(results)
        finally:
            self.topk = asked
