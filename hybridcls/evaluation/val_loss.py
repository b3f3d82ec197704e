"""Report the validation loss beside the training loss."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.evaluator import BaseMetric

from hybridcls.registry import METRICS

from .prediction_fields import NO_IMAGE
from .result_names import without_result

__all__ = ['ValLoss']


@METRICS.register_module()
class ValLoss(BaseMetric):
    """Average the losses of validation batches over the images.

    ``HybridClassifier.val_step`` writes the losses of the batch to each sample, a dict ``val_losses`` of floats. Each
    sample counts once: a smaller last batch weighs less, and images that pad the batches of several processes are
    dropped. (They remain in the mean of the batch that they share with others.)

    The results have the names of the training with the prefix ``val/``: ``val/loss`` and its parts, in mmengine's logs,
    ``scalars.json`` and TensorBoard. If the model reports only parts, the total is added: as in training, the sum of
    all whose name contains ``loss``.

    If no sample has ``val_losses`` (a test, images without labels) there is no result, but a warning.

    Args:
        collect_device (str): As in mmengine's BaseMetric. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None, which means ``'val'``.

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
            no_loss = 'No image has val_losses: HybridClassifier writes them in validations, for images with labels.'
            return without_result(self, no_loss if results else NO_IMAGE)
        parts = [value for name, value in means.items() if 'loss' in name]
        if parts and 'loss' not in means:
            means = {'loss': sum(parts), **means}
        return means
