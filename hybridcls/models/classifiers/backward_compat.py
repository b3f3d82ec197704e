"""The losses that keep a classifier's embeddings compatible with those of an old model."""

from typing import Any, Optional

import torch
from torch import Tensor

from hybridcls.functional.l2_normalize import l2_normalize
from hybridcls.functional.margins import cosine_logits
from hybridcls.functional.tokens.feature_pooling import pool_feature
from hybridcls.structures import count_views, read_targets

from ..losses import BackwardCompatLoss
from .teacher import Teacher

__all__ = ['BackwardCompat', 'class_means']


class BackwardCompat:
    """Losses of a classifier against a frozen old model, as entries in its dictionary of losses.

    It is no ``nn.Module``: see :class:`Teacher`.

    Args:
        old (Teacher): The frozen old model.
        loss (BackwardCompatLoss): The weights of the terms.
        width (int): D of the old embeddings.
        old_classes (Tensor, optional): The number of each class of the training in the old classifier, int64 (C,); -1
            where it has none. None: no influence loss.
        prototypes (Tensor, optional): L2-normalized class means of old embeddings (K, D), which are the old classifier
            then. Defaults to None: the old model's head.
    """

    def __init__(
        self,
        old: Teacher,
        loss: BackwardCompatLoss,
        width: int,
        old_classes: Optional[Tensor] = None,
        prototypes: Optional[Tensor] = None,
    ) -> None:
        self.old = old
        self.loss = loss
        self.width = width
        self.old_classes = old_classes
        self.prototypes = prototypes

    def __deepcopy__(self, memo: dict) -> 'BackwardCompat':
        return self

    def losses(self, images: Tensor, features: Any, data_samples: Any) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            images (Tensor): What the classifier saw, RGB in [0, 1], all views.
            features (tuple[Tensor, ...]): Its embedding, as the head gets it.
            data_samples (Sequence[DataSample]): One an image.

        Returns:
            dict[str, Tensor]: ``loss_influence`` and ``loss_alignment``, those that are on.
        """
        embeddings = pool_feature(features if isinstance(features, Tensor) else features[-1])
        targets = None
        if self.old_classes is not None:
            self.old_classes = self.old_classes.to(embeddings.device)
            targets = read_targets('BackwardCompatLoss', data_samples, embeddings.device, len(self.old_classes))
            views = count_views('BackwardCompatLoss', len(embeddings), len(targets))
            targets = targets.repeat(views, *[1] * (targets.dim() - 1))
        old_embeddings = self.old(images)[1] if self.loss.alignment_weight else None
        return self.loss(embeddings, targets, self._old_logits, self.old_classes, self.width, old_embeddings)

    def _old_logits(self, embeddings: Tensor) -> Tensor:
        if self.prototypes is None:
            return self.old.classify(embeddings)
        return self.loss.scale * cosine_logits(embeddings, self.prototypes)


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the L2-normalized class means of L2-normalized embeddings, and the row of each class.

    Args:
        embeddings (Tensor): (N, D), any norm.
        labels (Tensor): int64 (N,); those outside of [0, C) take no part.
        num_classes (int): C.

    Returns:
        tuple[Tensor, Tensor]: Prototypes of the classes that have images, float32 (K, D), and the row of each class,
        int64 (C,), -1 without images.
    """
    known = (labels >= 0) & (labels < num_classes)
    unit, _ = l2_normalize(embeddings[known])
    sums = unit.new_zeros(num_classes, unit.shape[1]).index_add_(0, labels[known], unit)
    present = labels[known].unique()
    rows = torch.full((num_classes,), -1)
    rows[present] = torch.arange(len(present))
    return l2_normalize(sums[present])[0], rows
