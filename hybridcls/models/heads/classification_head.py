"""The base of heads with classes: probabilities from logits, and the accuracy for the log."""

from collections.abc import Sequence
from typing import Optional, Union

from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.structures import write_predictions

from .embedding_head import EmbeddingHead
from .head import Features


class ClassificationHead(EmbeddingHead):
    """The base of heads whose ``forward(feats)`` returns logits, shape (N, C), and whose scores are their softmax.

    Args:
        num_classes (int): C, at least 1.
        in_channels (int, optional): D, see :class:`EmbeddingHead`.
        label_smoothing (float): Share of the target that is spread evenly over all classes, in [0, 1). Defaults to 0.
        init_cfg (dict | list[dict], optional): MMEngine's.

    Raises:
        ValueError, TypeError: If a number is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Optional[int] = None,
        label_smoothing: float = 0.0,
        init_cfg: Optional[Union[dict, list]] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number(self._name, 'num_classes', num_classes, 1, integer=True)
        check_number(self._name, 'label_smoothing', label_smoothing, 0, 1, high_open=True)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        """Write ``pred_score`` (C,), ``pred_label`` (1,) and ``embedding`` (D,) onto each sample.

        Scores are probabilities, float32. Scores and embeddings of several views of an image are averaged.
        """
        scores = self(feats).float().softmax(1)
        return write_predictions(self._name, data_samples, self.pre_logits(feats), scores)

    @staticmethod
    def accuracy(predicted: Tensor, labels: Tensor) -> Tensor:
        """Percent of rows whose label is among the predicted, shape (N,) or (N, k); a scalar, like mmpretrain's."""
        if predicted.dim() == 1:
            predicted = predicted.unsqueeze(1)
        return (predicted == labels.unsqueeze(1)).any(1).float().mean() * 100
