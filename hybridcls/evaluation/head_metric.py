"""Evaluate any metric on one head of a ``MultiHead``, or on known images only."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS

from .own_storage import own_storage
from .prediction_fields import NO_IMAGE, NO_KNOWN_IMAGE, MissingFieldError, label_of
from .result_names import without_result

__all__ = ['HeadMetric', 'MetricOf']


# By which hooks set a bank or a gallery for one evaluation; a metric without them is not asked.
_SETTERS = ('set_bank', 'set_classifier', 'set_gallery')


@METRICS.register_module(name=['HeadMetric', 'MetricOf'])
class HeadMetric(BaseMetric):
    """Evaluate a metric of any package on the predictions of one head, or on known images only.

    ::

        val_evaluator = [
            dict(type='Accuracy'),                                                    # of MultiHead's main head
            dict(type='HeadMetric', head='evidence', metric=dict(type='Accuracy')),   # evidence/accuracy/top1
            dict(type='HeadMetric', known_only=True, metric=dict(type='SingleLabelMetric'))]

    Args:
        metric (dict): The metric's config.
        head (str, optional): A head of a ``MultiHead``: its predictions replace those of the main head, and its name is
            the prefix of the metric's names. Defaults to None: the main head.
        known_only (bool): Leave out images of unknown categories (label -1, or one that the model has no class for),
            which mmpretrain's metrics count as wrong or reject. Defaults to False.
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix before the metric's own. Defaults to None: the head's name, if any.

    Raises:
        MissingFieldError: If the predictions have no such head.

    Example:
        >>> import torch
        >>> metric = HeadMetric(dict(type='Accuracy'), known_only=True)
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
        for name in ('directions', 'units'):  # optional: see result_names
            if hasattr(inside, name):
                setattr(self, name, getattr(inside, name))
        for name in _SETTERS:
            if hasattr(inside, name):
                setattr(self, name, getattr(inside, name))

    @property
    def dataset_meta(self) -> Optional[dict]:
        """The dataset's ``metainfo``, which is passed on to the metric."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Optional[dict]) -> None:
        self._dataset_meta = dataset_meta
        self.metric.dataset_meta = dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect the metric's results image by image: mmengine drops padded images later."""
        for sample in data_samples:
            shown = self._of_head(sample)
            if not self.known_only or label_of('HeadMetric', shown).known:
                self.metric.process(data_batch, [shown])
            self.results.append(own_storage(list(self.metric.results)))
            self.metric.results.clear()

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate as mmengine's BaseMetric does, and drop the metric's bank or gallery, as it does itself."""
        try:
            return super().evaluate(size)
        finally:
            if hasattr(self.metric, 'forget'):
                self.metric.forget()

    def compute_metrics(self, results: list[list]) -> dict[str, float]:
        """Compute the metric. Runs in the main process, with each image once."""
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
                f'HeadMetric: expected predictions of head={self.head!r}, got predictions of '
                f'{", ".join(sorted(heads)) if heads else "a model without MultiHead"}.'
            )
        return {**sample, **heads[self.head]}


MetricOf = HeadMetric  # its name until 0.1
