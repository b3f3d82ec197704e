"""Any metric, of one head's predictions or of the known images alone."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS

from .own_storage import own_storage
from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, MissingFieldError, label_of
from .result_names import without_result

__all__ = ['MetricOf']


@METRICS.register_module()
class MetricOf(BaseMetric):
    """Show a metric a part of what the model predicts.

    ::

        val_evaluator = [
            dict(type='Accuracy'),                                               # of MultiHead's main head
            dict(type='MetricOf', head='doubt', metric=dict(type='Accuracy')),   # doubt/accuracy/top1
            dict(type='MetricOf', known_only=True, metric=dict(type='SingleLabelMetric'))]

    Args:
        metric (dict): The metric's config, of any package.
        head (str, optional): Which head of a ``MultiHead``: its predictions stand in place of the main head's, and its
            name stands in front of the metric's names. Defaults to None: the main head's.
        known_only (bool): Leave out images of unknown categories (label -1, or one that the model has no class for),
            which mmpretrain's metrics count as mistakes or stumble over. Defaults to False.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): In front of the metric's own. Defaults to None: the head's name, or nothing.

    Raises:
        MissingFieldError: If the predictions come from no ``MultiHead``, or from one without this head.

    Example:
        >>> import torch
        >>> metric = MetricOf(dict(type='Accuracy'), known_only=True)
        >>> metric.process(None, [dict(pred_score=torch.tensor([0.9, 0.1]), pred_label=torch.tensor([0]),
        ...                            gt_label=torch.tensor([label])) for label in (0, 1, -1)])
        >>> metric.evaluate(size=3)
        {'accuracy/top1': 50.0}
    """

    def __init__(
        self,
        metric: dict,
        head: Optional[str] = None,
        known_only: bool = False,
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        inside = METRICS.build(metric)
        super().__init__(collect_device, '/'.join(filter(None, [head if prefix is None else prefix, inside.prefix])))
        self.metric = inside
        self.head = head
        self.known_only = known_only
        for name in ('directions', 'units'):  # a metric that does not say leaves it open here too
            if hasattr(inside, name):
                setattr(self, name, getattr(inside, name))

    @property
    def dataset_meta(self) -> Optional[dict]:
        """What the dataset tells about itself, for the metric inside too."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Optional[dict]) -> None:
        self._dataset_meta = dataset_meta
        self.metric.dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what the metric inside keeps of each image, image by image: processes' padded ones are dropped later."""
        for sample in data_samples:
            shown = self._of_head(sample)
            if not self.known_only or label_of('MetricOf', shown).known:
                self.metric.process(data_batch, [shown])
            self.results.append(own_storage(list(self.metric.results)))
            self.metric.results.clear()

    def compute_metrics(self, results: list[list]) -> dict[str, float]:
        """Let the metric inside compute. Runs in the main process, on every image once."""
        kept = [entry for entries in results for entry in entries]
        if not kept:
            return without_result(self, NO_KNOWN_IMAGE if results else NO_IMAGE)
        scores = self.metric.compute_metrics(kept)
        self.no_result = getattr(self.metric, 'no_result', '')
        return scores

    def _of_head(self, sample: dict) -> dict:
        if self.head is None:
            return sample
        heads = sample.get('heads') or {}
        if self.head not in heads:
            raise MissingFieldError(
                f'MetricOf: head={self.head!r}, and the predictions are of '
                f'{", ".join(sorted(heads)) if heads else "no MultiHead"}.'
            )
        return {**sample, **heads[self.head]}
