"""The projection that stands between an embedding and a contrastive loss."""

import itertools
from typing import Optional

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS


@MODELS.register_module()
class ProjectionMLP(BaseModule):
    """Linear layers with ReLU between them, as in SimCLR and SupCon.

    The contrastive loss makes its own input forget what does not help it; the embedding before the projection keeps
    it, and is what is used afterwards (section 3 of `SupCon <https://arxiv.org/abs/2004.11362>`_).

    Args:
        in_channels (int): Width of the embedding, D.
        hidden (int, optional): Width of the layers between. Defaults to None: ``in_channels``, as in SupCon.
        out (int): Width of the projection. Defaults to 128.
        layers (int): Linear layers. 1 is a linear projection. Defaults to 2.
        norm (dict, optional): Normalisation after each layer but the last, e.g. ``dict(type='BN1d')`` (SyncBN with
            several processes) or ``dict(type='LN')``; the layer before it has no bias then. Defaults to None.
        init_cfg (dict, optional): MMEngine's. Defaults to None, the layers' own start.

    Shape:
        - input: ``(N, in_channels)``, float.
        - returns: ``(N, out)``, not normalised; the loss does that.

    Raises:
        ValueError, TypeError: If a width or the number of layers is not an integer above 0.

    Example:
        >>> import torch
        >>> MODELS.build(dict(type='ProjectionMLP', in_channels=8, out=4))(torch.ones(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        in_channels: int,
        hidden: Optional[int] = None,
        out: int = 128,
        layers: int = 2,
        norm: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        hidden = in_channels if hidden is None else hidden
        for name, value in dict(in_channels=in_channels, hidden=hidden, out=out, layers=layers).items():
            check_number('ProjectionMLP', name, value, 1, integer=True)
        self.in_channels = in_channels
        self.out_channels = out
        parts: list[nn.Module] = []
        widths = [in_channels] + [hidden] * (layers - 1)
        for before, after in itertools.pairwise(widths):
            parts.append(nn.Linear(before, after, bias=norm is None))
            if norm is not None:
                parts.append(build_norm_layer(norm, after)[1])
            parts.append(nn.ReLU(inplace=True))
        parts.append(nn.Linear(widths[-1], out))
        self.mlp = nn.Sequential(*parts)

    def forward(self, embedding: Tensor) -> Tensor:
        """Project ``(N, in_channels)`` embeddings to ``(N, out)``."""
        return self.mlp(embedding)
