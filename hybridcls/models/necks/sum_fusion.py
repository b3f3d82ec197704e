"""Fusion by addition: project each stream to the embedding's width, then sum."""

from collections.abc import Sequence
from typing import Optional, Union

from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS

from .fusion import FusionNeck


@MODELS.register_module()
class SumFusion(FusionNeck):
    """Project each stream to the embedding's width and add them.

    Args:
        in_channels (Sequence[int], optional): Channels of each stream. Defaults to None: filled in.
        fusion_dim (int): Width D of the embedding. Defaults to 1024.
        init_cfg (dict, optional): mmengine's initialisation config.

    Shape:
        - features: one a stream, ``(B, C_i, h, w)``, ``(B, N, C_i)`` or ``(B, C_i)``.
        - returns: a tuple of one embedding ``(B, fusion_dim)``.

    Example:
        >>> import torch
        >>> SumFusion(in_channels=(8, 4), fusion_dim=6)((torch.rand(2, 8, 3, 3), torch.rand(2, 4)))[0].shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int], None] = None,
        fusion_dim: int = 1024,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number('SumFusion', 'fusion_dim', fusion_dim, 1, integer=True)
        self.project = nn.ModuleList(nn.Linear(channels, fusion_dim) for channels in self.in_channels)
        self.out_channels = fusion_dim

    def forward(self, features: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor]:
        """Return the embedding."""
        vectors = self.pool(features)
        embedding = self.project[0](vectors[0])
        for project, vector in zip(self.project[1:], vectors[1:], strict=True):
            embedding = embedding + project(vector)
        return (embedding,)
