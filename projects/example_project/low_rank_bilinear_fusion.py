"""Fuse two streams by the product of their features, instead of a gate."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.models.necks.fusion import FusionNeck
from hybridcls.registry import MODELS


@MODELS.register_module()
class LowRankBilinearFusion(FusionNeck):
    r"""Multiply the projections of the streams: a bilinear form of low rank.

    .. math::
        e = P \, (\tanh(U_1 F_1) \odot \ldots \odot \tanh(U_n F_n)) + b

    Eq. 7 of `Hadamard Product for Low-rank Bilinear Pooling <https://arxiv.org/abs/1610.04325>`_, for any number n of
    streams, with a bias in each projection.

    Args:
        in_channels (Sequence[int], optional): Channels of each stream. Defaults to None: inferred.
        fusion_dim (int): Width D of the embedding. Defaults to 1024.
        rank (int): Width of the product. Defaults to 1024.
        init_cfg (dict, optional): mmengine's initialisation config.

    Shape:
        - features: one a stream, ``(B, C_i, h, w)``, ``(B, N, C_i)`` or ``(B, C_i)``.
        - returns: a tuple of one embedding ``(B, fusion_dim)``.

    Raises:
        ValueError: If a number is not positive or the features have other channels.
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int], None] = None,
        fusion_dim: int = 1024,
        rank: int = 1024,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number('LowRankBilinearFusion', 'fusion_dim', fusion_dim, 1, integer=True)
        check_number('LowRankBilinearFusion', 'rank', rank, 1, integer=True)
        self.factors = nn.ModuleList([nn.Linear(channels, rank) for channels in self.in_channels])
        self.project = nn.Linear(rank, fusion_dim)
        self.out_channels = fusion_dim

    def forward(self, features: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor]:
        """Return the fused embedding."""
        factors = [factor(vector).tanh() for factor, vector in zip(self.factors, self.pool(features), strict=True)]
        return (self.project(torch.stack(factors).prod(dim=0)),)
