"""TokenLearner: a few learned summaries in place of many tokens."""

import torch
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import MODELS


@MODELS.register_module()
class TokenLearner(nn.Module):
    r"""Summarize N positions in K tokens, each a learned weighted combination of the positions.

    .. math::
        t_k = \sum_n a_{nk} x_n

    `TokenLearner <https://arxiv.org/abs/2106.11297>`_ (Ryoo et al., 2021), in the two forms of the authors' code
    (google-research/scenic, projects/token_learner/model.py), and the bare one:

    - ``'v1.1'`` (default; "works better in general"): a = softmax over the *positions* of MLP(LayerNorm(x)), so each
      token is a weighted mean.
    - ``'v1'`` (the paper's): a = sigmoid of four 3 x 3 convolutions (the first three with GELU), so each token is a
      weighted sum, N times larger than a mean. A LayerNorm after it, which the authors' code leaves to its
      TokenFuser, brings it back to the scale of the tokens; ``output_norm=False`` is the bare form.
      ``pooling='mean'`` divides the sum by N (their ``use_sum_pooling=False``), and has no norm after it.
    - ``'plain'``: a = softmax over the positions of MLP(x), v1.1 without its LayerNorm; no code of the authors has it.

    Args:
        channels (int): Channels C of a token.
        num_tokens (int): Number of summaries K. Defaults to 8.
        form (str): ``'v1.1'``, ``'v1'`` or ``'plain'``. Defaults to ``'v1.1'``.
        hidden (int): Hidden units of the MLP of v1.1 and plain. Defaults to 64.
        dropout (float): Dropout in that MLP, in [0, 1). Defaults to 0.
        output_norm (bool, optional): LayerNorm on the summaries. Defaults to None: with the sums of v1 only.
        pooling (str): ``'sum'`` or ``'mean'`` over the positions, for v1. Defaults to ``'sum'``.

    Shape:
        - x: tokens ``(B, N, C)``, or a map ``(B, C, H, W)``; v1 needs the grid: a map, or N a square number.
        - returns: ``(B, K, C)``.

    Raises:
        ValueError: If a number is out of range, a choice is unknown, ``pooling='mean'`` meets a softmax, which is a
            mean already, or v1 gets tokens that form no square.

    Example:
        >>> TokenLearner(32, num_tokens=4)(torch.rand(2, 49, 32)).shape
        torch.Size([2, 4, 32])
    """

    def __init__(
        self,
        channels: int,
        num_tokens: int = 8,
        form: str = 'v1.1',
        hidden: int = 64,
        dropout: float = 0.0,
        output_norm: bool | None = None,
        pooling: str = 'sum',
    ) -> None:
        super().__init__()
        check_number('TokenLearner', 'channels', channels, 1, integer=True)
        check_number('TokenLearner', 'num_tokens', num_tokens, 1, integer=True)
        check_number('TokenLearner', 'hidden', hidden, 1, integer=True)
        check_number('TokenLearner', 'dropout', dropout, 0, 1, high_open=True)
        check_choice('TokenLearner', 'form', form, ['v1.1', 'v1', 'plain'])
        check_choice('TokenLearner', 'pooling', pooling, ['sum', 'mean'])
        if pooling == 'mean' and form != 'v1':
            raise ValueError(
                f"TokenLearner: pooling='mean' belongs to form='v1', got form={form!r}, whose weights add up to 1. "
                'Leave pooling out.'
            )
        self.num_tokens = num_tokens
        self.form = form
        self.pooling = pooling
        self.norm = nn.Identity() if form == 'plain' else nn.LayerNorm(channels, eps=1e-6)
        if form != 'v1':
            self.attention = nn.Sequential(
                nn.Linear(channels, hidden),
                nn.GELU(approximate='tanh'),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_tokens),
                nn.Dropout(dropout),
            )
        else:
            convolutions: list[nn.Module] = []
            for layer in range(4):
                convolutions.append(
                    nn.Conv2d(channels if layer == 0 else num_tokens, num_tokens, 3, padding=1, bias=False)
                )
                convolutions.append(nn.GELU(approximate='tanh') if layer < 3 else nn.Sigmoid())
            self.attention = nn.Sequential(*convolutions)
        if output_norm is None:
            output_norm = form == 'v1' and pooling == 'sum'
        self.output_norm = nn.LayerNorm(channels, eps=1e-6) if output_norm else nn.Identity()

    def weights(self, x: Tensor) -> Tensor:
        """Return each summary's weight on each position: ``(B, N, C)`` or ``(B, C, H, W)`` -> ``(B, K, N)``."""
        grid: tuple[int, ...] | None = x.shape[2:] if x.dim() == 4 else None
        tokens = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
        normed = self.norm(tokens)
        if self.form != 'v1':
            return self.attention(normed).transpose(1, 2).softmax(dim=-1)
        if grid is None:
            side = round(tokens.shape[1] ** 0.5)
            if side * side != tokens.shape[1]:
                raise ValueError(
                    f"TokenLearner: form='v1' convolves over a grid, and {tokens.shape[1]} tokens form no "
                    "square. Give it a (B, C, H, W) map, or use form='v1.1'."
                )
            grid = (side, side)
        maps = self.attention(normed.transpose(1, 2).unflatten(2, grid)).flatten(2)
        return maps if self.pooling == 'sum' else maps / maps.shape[2]

    def forward(self, x: Tensor) -> Tensor:
        """Return the summaries of tokens or of a map."""
        weights = self.weights(x)
        tokens = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x
        return self.output_norm(torch.bmm(weights.to(tokens.dtype), tokens))
