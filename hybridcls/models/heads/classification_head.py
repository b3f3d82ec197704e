"""The base of heads with classes: probabilities from logits, and the accuracy for the log."""

from collections.abc import Sequence
from typing import Optional, Union

from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.structures import write_predictions

from ..modules.class_balance import ClassBalance, ClassWeight, LogitAdjustment
from .embedding_head import EmbeddingHead
from .head import Features


class ClassificationHead(EmbeddingHead):
    """The base of heads whose ``forward(feats)`` returns logits, shape (N, C), and whose scores are their softmax.

    Args:
        num_classes (int): C, at least 1.
        in_channels (int, optional): D, see :class:`EmbeddingHead`.
        label_smoothing (float): Share of the target that is spread evenly over all classes, in [0, 1). Defaults to 0.
        init_cfg (dict | list[dict], optional): MMEngine's.
        class_weight (str | dict | Sequence[float], optional): A factor for the loss of each class: ``'balanced'`` or
            ``'effective'`` (``dict(type='effective', beta=0.9999)``), from the number of training images of each class,
            or C numbers >= 0; see :class:`hybridcls.models.modules.class_balance.ClassBalance`. The weighted losses are
            divided by the number of samples, not by the sum of their weights, so that it does not matter how a batch is
            spread over processes. Defaults to None.
        logit_adjustment (float | dict, optional): The factor of the logarithm of each class's share of the training
            images that is added to its logit in the loss; ``dict(tau=1.0, post_hoc=True)`` takes it away from the
            logits in eval mode instead. Defaults to None.

    Attributes:
        class_balance (ClassBalance): The weights and the adjustment.

    Raises:
        ValueError, TypeError: If a number is out of range; if both make up for the classes' frequencies.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        label_smoothing: float = 0.0,
        init_cfg: Optional[Union[dict, list]] = None,
        class_weight: ClassWeight = None,
        logit_adjustment: LogitAdjustment = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number(self._name, 'num_classes', num_classes, 1, integer=True)
        check_number(self._name, 'label_smoothing', label_smoothing, 0, 1, high_open=True)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.class_balance = ClassBalance(self._name, num_classes, class_weight, logit_adjustment)

    @property
    def needs_class_counts(self) -> bool:
        """Whether ``ClassCountsHook`` counts the training images of each class for this head."""
        return bool(self.class_balance.setting)

    def set_class_counts(self, counts: Union[Sequence[int], Tensor], num_images: int) -> str:
        """Set the number of training images of each class, and return a description of the effect."""
        return self.class_balance.set_counts(counts, num_images)

    def outputs(self, feats: Features) -> dict[str, Tensor]:
        """Return ``logits`` and ``probabilities``, float32 ``(N, C)``, and ``embedding`` ``(N, D)``."""
        logits = self(feats).float()
        return dict(logits=logits, probabilities=logits.softmax(1), embedding=self.pre_logits(feats))

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        """Write ``pred_score`` (C,), ``pred_label`` (1,) and ``embedding`` (D,) to each sample.

        Scores are probabilities, float32. Scores and embeddings of several views of an image are averaged.
        """
        outputs = self.outputs(feats)
        return write_predictions(self._name, data_samples, outputs['embedding'], outputs['probabilities'])

    @staticmethod
    def accuracy(predicted: Tensor, labels: Tensor) -> Tensor:
        """Return the percentage of rows whose label is among the predicted, shape (N,) or (N, k); a scalar."""
        if predicted.dim() == 1:
            predicted = predicted.unsqueeze(1)
        return (predicted == labels.unsqueeze(1)).any(1).float().mean() * 100
