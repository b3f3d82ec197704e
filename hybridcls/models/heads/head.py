"""The protocol of a head, ours or another package's."""

from collections.abc import Sequence
from typing import Any, Optional, Protocol, Union

from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.structures import DataSample
from torch import Tensor

__all__ = [
    'Features',
    'Head',
    'check_head',
    'is_multi_label',
    'label_thresholds',
    'main_head',
    'outputs_of',
    'samples_of_rows',
    'takes_views',
]

Features = Union[Tensor, Sequence[Tensor]]


class Head(Protocol):
    """The methods that a classifier calls on its head.

    A head with classes has an attribute ``num_classes``, and its ``__call__`` returns logits ``(N, C)``, whose softmax
    is the score: distillation, ensembles and validation losses use both. With ``multi_label = True`` their sigmoid is
    the score: an image has any number of the classes. ``pre_logits(feats)``, ``count_views`` and ``outputs(feats)`` are
    optional: see :class:`EmbeddingHead`, which has them and is the easiest base. ``outputs`` returns what ``predict``
    writes onto samples as one tensor each, by the names of an exported model: ``logits``, ``probabilities``,
    ``embedding`` and the head's own uncertainties; without it the first three are computed by the rules above.
    """

    def __call__(self, feats: Features) -> Any:
        """Return logits ``(N, C)``, or another output of the head."""

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Any]:
        """Return values by name: all are logged, and those with ``loss`` in their names are summed and trained on."""

    def predict(self, feats: Features, data_samples: Any = None) -> list[DataSample]:
        """Write ``pred_score``, ``pred_label`` and the like to the samples, and return them."""


def check_head(caller: str, head: Any, method: str = 'loss') -> None:
    """Raise a TypeError unless a head has a method of the protocol: ``loss`` (when it is built) or ``predict``."""
    if not callable(getattr(head, method, None)):
        raise TypeError(
            f'{caller}: expected a head with the method {method}(feats, data_samples), got {type(head).__name__}, '
            'which lacks it. Derive it from hybridcls.models.heads.EmbeddingHead or mmpretrain.models.heads.ClsHead.'
        )


def is_multi_label(head: Any) -> bool:
    """Return whether the score is the sigmoid of a head's logits: it says so, or is one of mmpretrain's for this."""
    return bool(getattr(head, 'multi_label', isinstance(head, MultiLabelClsHead)))


def main_head(head: Any) -> Any:
    """Return the one of several heads whose answer is the model's; any other head is its own."""
    return head.heads[head.main] if hasattr(head, 'heads') else head


def label_thresholds(head: Any, num_classes: int) -> Optional[list[float]]:
    """Return the probability from which on a head with several labels gives each class.

    None for a head of one label an image, and for one of mmpretrain's that gives the ``topk`` best.
    """
    if not is_multi_label(head):
        return None
    head = main_head(head)
    values = getattr(getattr(head, 'thresholds', None), 'values', None)
    if values is not None:
        return values.tolist()
    return None if getattr(head, 'thr', None) is None else [float(head.thr)] * num_classes


def outputs_of(head: Any, feats: Features) -> dict[str, Tensor]:
    """Return the outputs of any head for each row; see :class:`Head`."""
    if hasattr(head, 'outputs'):
        return head.outputs(feats)
    logits = head(feats).float()
    outputs = dict(logits=logits, probabilities=logits.sigmoid() if is_multi_label(head) else logits.softmax(1))
    embedding = head.pre_logits(feats) if hasattr(head, 'pre_logits') else None
    if isinstance(embedding, Tensor) and embedding.dim() == 2:
        outputs['embedding'] = embedding
    return outputs


def takes_views(head: Any) -> bool:
    """Return whether a head distinguishes views from images (``count_views``); others take each row as an image."""
    return hasattr(head, 'count_views')


def samples_of_rows(head: Any, num_rows: int, data_samples: Sequence[DataSample]) -> Sequence[DataSample]:
    """Return the samples for a head with ``num_rows`` features: once per image, or once per row."""
    return data_samples if takes_views(head) else [*data_samples] * (num_rows // max(1, len(data_samples)))
