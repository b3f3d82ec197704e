"""TokenFuser: map a few summary tokens back to every position."""

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number
from hybridcls.registry import MODELS


@MODELS.register_module()
class TokenFuser(nn.Module):
    r"""Give each of N positions its weighted sum of K summary tokens.

    .. math::
        y_n = \sum_k b_{nk}\, Y_k, \qquad Y = LN(W\, LN(t)), \qquad b = \sigma(MLP(LN(x)))

    `TokenLearner <https://arxiv.org/abs/2106.11297>`_ (Ryoo et al., 2021), section 3.2, as in the authors' code
    (google-research/scenic, projects/token_learner/model.py): W mixes the summaries, the same for each channel, with a
    bias a summary, and starts at zero, so that ``x + fuser(tokens, x)`` starts as x. Their code returns tokens
    for a map too (its own test for a map comes after it is flattened); here a map is returned as a map.

    Args:
        channels (int): Channels C of a token.
        num_tokens (int): Number of summaries K. Defaults to 8.
        hidden (int): Hidden units of the MLP. Defaults to 64.
        dropout (float): Dropout in the MLP and on the result, in [0, 1). Defaults to 0.
        use_norm (bool): The two LayerNorms around W, which the sums of TokenLearner's v1 need. Defaults to True.

    Shape:
        - tokens: ``(B, K, C)``, of a :class:`TokenLearner`, or of blocks after it.
        - x: what the TokenLearner saw, ``(B, N, C)`` or ``(B, C, H, W)``.
        - returns: as x.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> x = torch.rand(2, 49, 32)
        >>> bool(torch.equal(x + TokenFuser(32, num_tokens=4)(torch.rand(2, 4, 32), x), x))
        True
    """

    def __init__(
        self, channels: int, num_tokens: int = 8, hidden: int = 64, dropout: float = 0.0, use_norm: bool = True
    ) -> None:
        super().__init__()
        check_number('TokenFuser', 'channels', channels, 1, integer=True)
        check_number('TokenFuser', 'num_tokens', num_tokens, 1, integer=True)
        check_number('TokenFuser', 'hidden', hidden, 1, integer=True)
        check_number('TokenFuser', 'dropout', dropout, 0, 1, high_open=True)
        self.norm_before = nn.LayerNorm(channels, eps=1e-6) if use_norm else nn.Identity()
        self.mix = nn.Linear(num_tokens, num_tokens)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
        self.norm_after = nn.LayerNorm(channels, eps=1e-6) if use_norm else nn.Identity()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.attention = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(approximate='tanh'),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_tokens),
            nn.Dropout(dropout),
            nn.Sigmoid(),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        """Return the fused feature of each position."""
        mixed = self.norm_after(self.mix(self.norm_before(tokens).transpose(1, 2)).transpose(1, 2))
        positions = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
        shares = self.attention(self.norm(positions))
        fused = self.dropout(torch.bmm(shares, mixed.to(shares.dtype)))
        return fused.transpose(1, 2).unflatten(2, x.shape[2:]) if x.dim() == 4 else fused
