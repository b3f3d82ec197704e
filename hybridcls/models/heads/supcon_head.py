"""The head for supervised contrastive learning."""

import warnings
from collections.abc import Sequence
from typing import Optional

from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.registry import MODELS
from hybridcls.structures import read_hard_labels

from .embedding_head import EmbeddingHead
from .head import Features


@MODELS.register_module()
class SupConHead(EmbeddingHead):
    """A projection and a contrastive loss over all views of a batch.

    Predictions carry ``embedding``, the representation *before* the projection: what kNN looks at and what the next
    phase goes on from. There are no classes, so no ``pred_score``, and labels may be any integers.

    Args:
        in_channels (int, optional): Width of the embedding. ``HybridClassifier`` fills it in.
        projection (dict, optional): Keys of :class:`hybridcls.models.modules.ProjectionMLP` (``hid_channels``,
            ``out_channels``, ``num_layers``, ``norm_cfg``), or another module's config with its ``type``. Defaults to
            None: two layers to 128.
        loss (dict, optional): Defaults to ``dict(type='SupConLoss')``. Of its ``queue`` the width is filled in; a
            temperature that it learns is logged.
        use_labels (bool): Whether images of one class attract each other. False is SimCLR: only views of one image do,
            and labels are not looked at. Defaults to True.
        init_cfg (dict, optional): MMEngine's.

    Raises:
        ValueError: If labels are missing or soft (mixup, cutmix) with ``use_labels=True``.

    Example:
        >>> import torch
        >>> projection = dict(hid_channels=16, out_channels=4)
        >>> head = MODELS.build(dict(type='SupConHead', in_channels=8, projection=projection))
        >>> two_views_of_three_images = torch.rand(6, 8)
        >>> losses = head.loss((two_views_of_three_images,), [DataSample().set_gt_label(label) for label in (0, 1, 1)])
        >>> list(losses), head((two_views_of_three_images,)).shape
        (['loss'], torch.Size([6, 4]))
    """

    def __init__(
        self,
        in_channels: Optional[int] = None,
        projection: Optional[dict] = None,
        loss: Optional[dict] = None,
        use_labels: bool = True,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        self.projection = MODELS.build({'type': 'ProjectionMLP', 'in_channels': self.in_channels, **(projection or {})})
        self.loss_module = MODELS.build(_with_dim(loss, getattr(self.projection, 'out_channels', None)))
        self.use_labels = use_labels
        self._warned = False

    def forward(self, feats: Features) -> Tensor:
        """Return projections, shape (N, out_channels), not normalised."""
        return self.projection(self.pre_logits(feats))

    def loss(self, feats: Features, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Return ``loss``, and ``temperature`` where it is learned."""
        self.warn_of_bad_embeddings(self.pre_logits(feats), data_samples)
        projections = self(feats)
        num_views = self.count_views(projections, data_samples)
        labels = None
        if self.use_labels:
            labels = read_hard_labels('SupConHead', data_samples, projections.device)
        elif num_views == 1 and self.training and not self._warned:
            self._warned = True
            warnings.warn(
                'SupConHead: use_labels=False with one view an image: nothing attracts, and the loss is 0. Give two '
                "views: dict(type='MultiView', num_views=[2], transforms=[...]) in the training pipeline.",
                stacklevel=2,
            )
        views = projections.unflatten(0, (num_views, len(data_samples))).transpose(0, 1)  # (B, V, out_channels)
        losses = dict(loss=self.loss_module(views, labels))
        if getattr(self.loss_module, 'learned_temperature', None) is not None:
            losses['temperature'] = self.loss_module.temperature.detach()
        return losses


def _with_dim(loss: Optional[dict], dim: Optional[int]) -> dict:
    """Return the config of the loss, with the width of its queue if it has one."""
    loss = dict(type='SupConLoss') if loss is None else dict(loss)
    if isinstance(loss.get('queue'), dict) and loss['queue'].get('dim') is None and dim is not None:
        loss['queue'] = {**loss['queue'], 'dim': dim}
    return loss
