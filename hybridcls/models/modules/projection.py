"""The projection between an embedding and a contrastive loss."""

import itertools
from typing import Optional

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS
from hybridcls.renames import keeps_old_spellings


@MODELS.register_module()
@keeps_old_spellings
class ProjectionMLP(BaseModule):
    """Linear layers with ReLU between them, as in SimCLR and SupCon.

    The contrastive loss makes its own input forget what does not help it; the embedding before the projection keeps
    it, and is what is used afterwards (section 3 of `SupCon <https://arxiv.org/abs/2004.11362>`_).

    Args:
        in_channels (int): Width of the embedding, D.
        hid_channels (int, optional): Width of the layers between. Defaults to None: ``in_channels``, as in SupCon.
        out_channels (int): Width of the projection. Defaults to 128.
        num_layers (int): Linear layers. 1 is a linear projection. Defaults to 2.
        norm_cfg (dict, optional): Normalisation after each layer but the last, e.g. ``dict(type='BN1d')`` (SyncBN with
            several processes) or ``dict(type='LN')``; the layer before it has no bias then. Defaults to None.
        init_cfg (dict, optional): MMEngine's. Defaults to None, the layers' own start.

    Shape:
        - input: ``(N, in_channels)``, float.
        - returns: ``(N, out_channels)``, not normalised; the loss does that.

    Raises:
        ValueError, TypeError: If a width or the number of layers is not an integer above 0.

    Example:
        >>> import torch
        >>> MODELS.build(dict(type='ProjectionMLP', in_channels=8, out_channels=4))(torch.ones(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: Optional[int] = None,
        out_channels: int = 128,
        num_layers: int = 2,
        norm_cfg: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        hid_channels = in_channels if hid_channels is None else hid_channels
        for name, value in dict(
            in_channels=in_channels, hid_channels=hid_channels, out_channels=out_channels, num_layers=num_layers
        ).items():
            check_number('ProjectionMLP', name, value, 1, integer=True)
        self.in_channels = in_channels
        self.out_channels = out_channels
        parts: list[nn.Module] = []
        widths = [in_channels] + [hid_channels] * (num_layers - 1)
        for before, after in itertools.pairwise(widths):
            parts.append(nn.Linear(before, after, bias=norm_cfg is None))
            if norm_cfg is not None:
                parts.append(build_norm_layer(norm_cfg, after)[1])
            parts.append(nn.ReLU(inplace=True))
        parts.append(nn.Linear(widths[-1], out_channels))
        self.mlp = nn.Sequential(*parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """Project ``(N, in_channels)`` embeddings to ``(N, out_channels)``."""
        return self.mlp(embedding)
