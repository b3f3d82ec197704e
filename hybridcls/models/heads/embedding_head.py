"""The base of all heads: it checks the incoming embedding, and writes it to predictions."""

import logging
from collections.abc import Sequence
from typing import Optional, Union

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.checks import check_number, is_or_are
from hybridcls.structures import count_views, write_predictions

from .head import Features


class EmbeddingHead(BaseModule):
    """The base of heads, which knows the width of its embedding and predicts the embedding itself.

    A head gets what the neck returned, a tuple whose last entry is the embedding, shape (V * B, D), for B images in V
    views: all of the first view, then all of the second. It tells V from the number of data samples.

    Subclasses write ``forward(feats)`` and ``loss(feats, data_samples)``; the latter returns a dictionary in which
    entries named ``*loss*`` are added up and trained on, and all are logged.

    Args:
        in_channels (int, optional): D. ``HybridClassifier`` fills it in from the neck; None here is an error.
        init_cfg (dict | list[dict], optional): MMEngine's.

    Raises:
        ValueError: If ``in_channels`` is missing.
    """

    def __init__(self, in_channels: Optional[int] = None, init_cfg: Optional[Union[dict, list]] = None) -> None:
        super().__init__(init_cfg)
        if in_channels is None:
            raise ValueError(
                f"{self._name}: in_channels is missing. HybridClassifier fills it in from the neck's out_channels; "
                'built by hand, or under another classifier, the head needs in_channels=<width of the embedding>.'
            )
        check_number(self._name, 'in_channels', in_channels, 1, integer=True)
        self.in_channels = in_channels

    @property
    def _name(self) -> str:
        return type(self).__name__

    def pre_logits(self, feats: Features) -> Tensor:
        """Return the embedding, shape (V * B, D), from the neck's output.

        Raises:
            ValueError: If it is not a matrix of width ``in_channels``.
        """
        embedding = feats if isinstance(feats, Tensor) else feats[-1]
        if embedding.dim() != 2 or embedding.shape[1] != self.in_channels:
            raise ValueError(
                f'{self._name}: expected an embedding of shape (N, {self.in_channels}), got '
                f'{tuple(embedding.shape)}. A feature map or tokens need a neck that pools them (DHAFusion, '
                'ConcatFusion, GlobalAveragePooling); another width needs another in_channels.'
            )
        return embedding

    def count_views(self, embedding: Tensor, data_samples: Sequence[DataSample]) -> int:
        """Return V, the number of rows of ``embedding`` per sample."""
        return count_views(self._name, len(embedding), len(data_samples))

    def warn_of_bad_embeddings(self, embedding: Tensor, data_samples: Sequence[DataSample]) -> None:
        """Warn of images whose embedding is NaN or infinite, on a CPU alone: on a GPU the check would wait for it.

        A warning, not an error: the optimizer wrapper's ``nonfinite_loss`` decides whether a non-finite loss ends the
        training.
        """
        if embedding.device.type != 'cpu' or bool(embedding.detach().isfinite().all()):
            return
        rows = (~embedding.detach().isfinite().all(1)).nonzero().flatten().tolist()
        first = data_samples[rows[0] % len(data_samples)].get('img_path', None) or f'row {rows[0]}'
        print_log(
            f'{self._name}: {len(rows)} of {len(embedding)} embeddings {is_or_are(len(rows))} NaN or infinite, first '
            f'that of {first}. The loss of this batch will be non-finite, too. Look at the image, the learning rate, '
            'and half precision.',
            'current',
            level=logging.WARNING,
        )

    def outputs(self, feats: Features) -> dict[str, Tensor]:
        """Return the head's outputs for each row, under the names of an exported model; see :class:`Head`."""
        return dict(embedding=self.pre_logits(feats))

    def predict(
        self, feats: Features, data_samples: Optional[Sequence[Optional[DataSample]]] = None
    ) -> list[DataSample]:
        """Write ``embedding`` (D,), float32, to each sample; views of an image are averaged."""
        return write_predictions(self._name, data_samples, self.pre_logits(feats))
