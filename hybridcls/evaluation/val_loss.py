"""The validation loss, so that it can be seen beside the training loss."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE
from .result_names import without_result

__all__ = ['ValLoss']


@METRICS.register_module()
class ValLoss(BaseMetric):
    """Mean over the evaluated images of the losses that the model reports for validation batches.

    ``HybridClassifier.val_step`` puts a dict ``val_losses`` of floats, the losses of the sample's batch, on every
    sample. Each sample counts once, so a smaller last batch weighs less, and images that several processes evaluate
    twice to have equally many are counted once. (Where such a repeated image shares a batch with others, it remains
    in that batch's mean.)

    The results are named as in training, with ``val/`` in front: ``val/loss`` and its parts. The total is added where
    the model names only parts: as in training, the sum of all whose name contains ``loss``. In mmengine's logs,
    ``scalars.json`` and TensorBoard they stand under this name beside the training's ``loss``.

    Where no sample has ``val_losses`` (a test, images without labels) there is no result, and a warning says so.

    Args:
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): In front of the names. Defaults to None, which means ``'val'``.

    Example:
        >>> metric = ValLoss()
        >>> metric.process(None, [dict(val_losses=dict(loss=1.0))] * 3)
        >>> metric.process(None, [dict(val_losses=dict(loss=5.0))])  # a last batch of one
        >>> metric.evaluate(size=4)
        {'val/loss': 2.0}
    """

    default_prefix = 'val'
    directions = {'loss': 'less', '*loss*': 'less', '*accuracy*': 'greater', '*': None}
    units = {'*loss*': 'nats', 'kl': 'nats', '*.kl': 'nats', '*accuracy*': '%'}

    def __init__(self, collect_device: str = 'cpu', prefix: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the losses of each sample's batch."""
        seen: dict[int, dict[str, float]] = {}
        for sample in data_samples:
            losses = sample.get('val_losses') or {}
            # All samples of a batch share one dict: read the numbers (maybe from a GPU) and pickle them only once.
            if id(losses) not in seen:
                seen[id(losses)] = {name: float(value) for name, value in losses.items()}
            self.results.append(seen[id(losses)])

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Average over the samples."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for losses in results:
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + 1
        means = {name: sums[name] / counts[name] for name in sums}
        if not means:
            no_loss = (
                'No image carries val_losses: HybridClassifier writes them in validations, for images with labels.'
            )
            return without_result(self, no_loss if results else NO_IMAGE)
        parts = [value for name, value in means.items() if 'loss' in name]
        if parts and 'loss' not in means:
            means = {'loss': sum(parts), **means}
        return means
