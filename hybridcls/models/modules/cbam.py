"""Convolutional Block Attention Module (CBAM)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import MODELS

# (B, C, H, W) -> (B, C)
_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    'avg': lambda x: x.mean(dim=(2, 3)),
    'max': lambda x: x.amax(dim=(2, 3)),
    'lp': lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    'lse': lambda x: x.logsumexp(dim=(2, 3)),
}


class ChannelGate(nn.Module):
    """The channel attention of CBAM: a weight per channel, from the pooled map.

    Equation 2 of `CBAM <https://arxiv.org/abs/1807.06521>`_: one MLP, shared by the average and the maximum over the
    positions (or what else ``pool_types`` names); the results are added *before* the sigmoid.

    Args:
        channels (int): Channels C of the map.
        reduction (int): The hidden layer has ``max(1, C // reduction)`` units. Defaults to 16.
        pool_types (Sequence[str]): See :class:`CBAM`. Defaults to ``('avg', 'max')``.

    Shape:
        - x: ``(B, C, H, W)``.
        - returns: logits ``(B, C, 1, 1)``, before the sigmoid.
    """

    def __init__(self, channels: int, reduction: int = 16, pool_types: Sequence[str] = ('avg', 'max')) -> None:
        super().__init__()
        self.pool_types = tuple(pool_types)
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the channel logits of a map."""
        logits = [self.mlp(_POOLS[pool](x)) for pool in self.pool_types]
        return sum(logits[1:], logits[0])[:, :, None, None]


class SpatialGate(nn.Module):
    """The spatial attention of CBAM: a weight per position, from the maximum and the mean over the channels.

    Equation 3 of `CBAM <https://arxiv.org/abs/1807.06521>`_, with the authors' batch normalisation after the
    convolution (momentum 0.01, which the paper does not mention).

    Args:
        kernel_size (int): Odd width of the convolution. Defaults to 7.

    Shape:
        - x: ``(B, C, H, W)``.
        - returns: logits ``(B, 1, H, W)``, before the sigmoid.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return the spatial logits of a map."""
        summary = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        logits = self.conv(summary)
        if self.bn.training and logits.numel() == 1:
            # One value has no variance: a batch of one on a 1 x 1 map is normalised with the running statistics.
            return F.batch_norm(
                logits,
                self.bn.running_mean,
                self.bn.running_var,
                self.bn.weight,
                self.bn.bias,
                training=False,
                eps=self.bn.eps,
            )
        return self.bn(logits)


@MODELS.register_module()
class CBAM(nn.Module):
    r"""Weight the channels of a map, then its positions.

    .. math::
        F' = g(M_c(F)) \odot F, \qquad F'' = g(M_s(F')) \odot F'

    Equations 1 to 3 of `CBAM <https://arxiv.org/abs/1807.06521>`_ (Woo et al., ECCV 2018), where :math:`g` is the
    sigmoid. Started as the paper does, it scales every feature by about a quarter, which changes a *pretrained* map. By
    default it therefore starts as the identity: :math:`g(x) = 2 \sigma(x)` and the last layer of each branch starts
    at zero. ``identity_init=False`` is the paper's (and the authors' code's) module, to the number.

    Args:
        channels (int): Channels C of the map.
        reduction (int): Reduction of the channel MLP. Defaults to 16.
        kernel_size (int): Odd width of the spatial convolution. Defaults to 7.
        identity_init (bool): Start as the identity. Defaults to True.
        use_channel (bool): False leaves the channels alone: a spatial gate only. Defaults to True.
        use_spatial (bool): False leaves the positions alone, as ``no_spatial=True`` of the authors' code
            (Jongchan/attention-module), the paper's ablation. Defaults to True.
        pool_types (Sequence[str]): What the channel gate sees of the positions, as in the authors' code: ``'avg'``,
            ``'max'``, ``'lp'`` (the 2-norm), ``'lse'`` (log of the sum of exponentials), each at most once. The sums of
            the last two grow with the map. Defaults to ``('avg', 'max')``.

    Shape:
        - x: ``(B, C, H, W)``, any H and W.
        - returns: ``(B, C, H, W)``, same dtype.

    Raises:
        ValueError: If the kernel is even, a number is not positive, a pool is unknown or given twice, or no gate is
            left.

    Example:
        >>> x = torch.rand(2, 32, 4, 4)
        >>> bool(torch.equal(CBAM(32).eval()(x), x))
        True
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        identity_init: bool = True,
        use_channel: bool = True,
        use_spatial: bool = True,
        pool_types: Sequence[str] = ('avg', 'max'),
    ) -> None:
        super().__init__()
        check_number('CBAM', 'channels', channels, 1, integer=True)
        check_number('CBAM', 'reduction', reduction, 1, integer=True)
        check_number('CBAM', 'kernel_size', kernel_size, 1, integer=True)
        if kernel_size % 2 == 0:
            raise ValueError(
                f'CBAM: kernel_size={kernel_size} is even, and an even kernel shifts the map by half a '
                f'position. Use {kernel_size - 1} or {kernel_size + 1}.'
            )
        for pool in pool_types:
            check_choice('CBAM', 'pool_types', pool, _POOLS)
        if isinstance(pool_types, str) or len(set(pool_types)) != max(1, len(pool_types)):
            raise ValueError(
                f'CBAM: expected a list of different pools in pool_types, got {pool_types!r}. For example '
                "pool_types=['avg', 'max']."
            )
        if not use_channel and not use_spatial:
            raise ValueError(
                'CBAM: expected one gate at least, got use_channel=False and use_spatial=False. Set one of them to '
                'True, or in HybridBackbone use_cbam=False.'
            )
        self.channel_gate = ChannelGate(channels, reduction, pool_types) if use_channel else None
        self.spatial_gate = SpatialGate(kernel_size) if use_spatial else None
        self.gain = 2.0 if identity_init else 1.0
        if identity_init and self.channel_gate is not None:
            last: Any = self.channel_gate.mlp[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        if identity_init and self.spatial_gate is not None:
            nn.init.zeros_(self.spatial_gate.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted map."""
        for gate in (self.channel_gate, self.spatial_gate):
            if gate is not None:
                x = x * (self.gain * torch.sigmoid(gate(x)))
        return x
