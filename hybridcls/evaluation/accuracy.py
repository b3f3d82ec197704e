"""Top-k accuracy that also works with fewer than k classes."""

import logging
from typing import Any, Union

from mmengine.logging import print_log
from mmpretrain.evaluation import Accuracy as _Accuracy

from hybridcls.registry import METRICS

__all__ = ['Accuracy']


@METRICS.register_module()
class Accuracy(_Accuracy):
    """mmpretrain's ``Accuracy`` in percent, with all of its options, for folders of any number of classes.

    With fewer than k classes, top-k accuracy says nothing; mmpretrain's raises an error then, when the first epoch is
    trained. Here it is left out of the results, with one warning, so that a config with ``topk=(1, 5)`` can be
    inherited for four classes.

    Args:
        topk (int | Sequence[int]): The own class is among the k with the largest scores. Defaults to (1, ).
        thrs (float | None | Sequence[float | None]): Predictions with a smaller score are wrong; None: no threshold.
            Defaults to 0.
        collect_device (str), prefix (str, optional): As in mmengine's BaseMetric.

    Example:
        >>> import torch
        >>> metric = Accuracy(topk=(1, 5))
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.1, 0.9]), gt_label=torch.tensor([1]))])
        >>> metric.evaluate(size=1)
        {'accuracy/top1': 100.0}
    """

    topk: tuple[int, ...]

    def compute_metrics(self, results: list[dict]) -> dict[str, Union[float, Any]]:
        """Score those k that there are classes for."""
        if results and 'pred_score' in results[0]:
            classes = len(results[0]['pred_score'])
            possible = tuple(k for k in self.topk if k <= classes)
            if possible != self.topk:
                left_out = ', '.join(f'top-{k}' for k in self.topk if k > classes)
                print_log(
                    f'Accuracy: there are {classes} classes, so {left_out} is left out.',
                    logger='current',
                    level=logging.WARNING,
                )
                self.topk = possible
        return super().compute_metrics(results) if self.topk else {}
