"""Fusion by concatenation of the streams' vectors."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS

from .fusion import FusionNeck


@MODELS.register_module()
class ConcatFusion(FusionNeck):
    """Concatenate the streams, and project them if asked: DHAFusion without its gate.

    Args:
        in_channels (Sequence[int], optional): Channels of each stream. Defaults to None: filled in.
        fusion_dim (int, optional): Width of a linear projection; None leaves the concatenation as it is. Defaults to
            1024.
        init_cfg (dict, optional): mmengine's initialisation config.

    Shape:
        - features: one a stream, ``(B, C_i, h, w)``, ``(B, N, C_i)`` or ``(B, C_i)``.
        - returns: a tuple of one embedding ``(B, fusion_dim)`` or ``(B, sum(in_channels))``.

    Example:
        >>> neck = ConcatFusion(in_channels=(8, 4), fusion_dim=None)
        >>> neck((torch.rand(2, 8, 3, 3), torch.rand(2, 4)))[0].shape
        torch.Size([2, 12])
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int], None] = None,
        fusion_dim: Optional[int] = 1024,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        width = sum(self.in_channels)
        if fusion_dim is not None:
            check_number('ConcatFusion', 'fusion_dim', fusion_dim, 1, integer=True)
        self.project = nn.Identity() if fusion_dim is None else nn.Linear(width, fusion_dim)
        self.out_channels = width if fusion_dim is None else fusion_dim

    def forward(self, features: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor]:
        """Return the embedding."""
        return (self.project(torch.cat(self.pool(features), dim=1)),)
