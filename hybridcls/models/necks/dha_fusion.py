"""Dynamic hybrid attention: a gate that weighs the streams channel by channel."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS

from .fusion import FusionNeck


@MODELS.register_module(['DHAFusion', 'DynamicHeadAttention'])
class DHAFusion(FusionNeck):
    r"""Fuse the streams through a gate over all of their channels.

    .. math::
        Z = [\mathrm{pool}(F_{cnn}) \,\|\, F_{vit}], \quad
        a = \sigma(W_2 \, \mathrm{relu}(W_1 Z)), \quad
        e = W (Z \odot a)

    The gate is a squeeze-and-excitation (`Hu et al. <https://arxiv.org/abs/1709.01507>`_, equation 3) over the channels
    of both streams, so each channel's weight depends on what the *other* stream saw. Biases are added in each layer.
    ``DynamicHeadAttention`` is the same part.

    Args:
        in_channels (Sequence[int], optional): Channels of each stream. Defaults to None: filled in.
        fusion_dim (int): Width D of the embedding. Defaults to 1024.
        reduction (int): The gate's hidden layer has ``sum(in_channels) // reduction`` units. Defaults to 4.
        init_cfg (dict, optional): mmengine's initialisation config.

    Attributes:
        gate (nn.Sequential): Its output is a, ``(B, sum(in_channels))`` in (0, 1): hook it, or call :meth:`gates`.

    Shape:
        - features: one a stream, ``(B, C_i, h, w)``, ``(B, N, C_i)`` or ``(B, C_i)``.
        - returns: a tuple of one embedding ``(B, fusion_dim)``.

    Raises:
        ValueError: If a number is not positive or the features are not those it was built for.

    Example:
        >>> neck = DHAFusion(in_channels=(8, 4), fusion_dim=16)
        >>> neck((torch.rand(2, 8, 3, 3), torch.rand(2, 4)))[0].shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        in_channels: Union[int, Sequence[int], None] = None,
        fusion_dim: int = 1024,
        reduction: int = 4,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(in_channels, init_cfg)
        check_number('DHAFusion', 'fusion_dim', fusion_dim, 1, integer=True)
        check_number('DHAFusion', 'reduction', reduction, 1, integer=True)
        width = sum(self.in_channels)
        hidden = max(1, width // reduction)
        self.gate = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width), nn.Sigmoid()
        )
        self.project = nn.Linear(width, fusion_dim)
        self.out_channels = fusion_dim

    def gates(self, features: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Return the gate's values for each stream, ``(B, C_i)`` in (0, 1): the share of each channel that passes."""
        return self.gate(torch.cat(self.pool(features), dim=1)).split(self.in_channels, dim=1)

    def forward(self, features: Union[Tensor, Sequence[Tensor]]) -> tuple[Tensor]:
        """Return the fused embedding."""
        joined = torch.cat(self.pool(features), dim=1)
        return (self.project(joined * self.gate(joined)),)
