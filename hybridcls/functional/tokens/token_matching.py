"""Token matching: find similar tokens of a transformer, and merge them.

First a plan (:func:`match_tokens`), then what applies it: :func:`merge_tokens`, :func:`merged_index_after`,
:func:`unmerge_tokens`. Written from `Token Merging <https://arxiv.org/abs/2210.09461>`_ (Bolya et al., 2023).
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from hybridcls.checks import check_choice

from ..full_precision import outside_autocast
from ..l2_normalize import l2_normalize

__all__ = [
    'UNMERGED_ORDERS', 'TokenMatching', 'match_tokens', 'merge_tokens', 'merged_index_after', 'proportional_bias',
    'unmerge_tokens',
]  # fmt: skip

UNMERGED_ORDERS = ('official', 'position')


class TokenMatching(NamedTuple):
    """A plan that merges N tokens to N - r: one entry per token, all int64.

    Args:
        kept (Tensor): ``(B, N - r)``, where each token that stays stood before, in its new order: the protected
            tokens, what is left of the set A, the set B.
        merged (Tensor): ``(B, r)``, where the tokens stood that join another one.
        target (Tensor): ``(B, r)``, the *new* positions of the tokens that they join.
    """

    kept: Tensor
    merged: Tensor
    target: Tensor


@torch.no_grad()
def match_tokens(metric: Tensor, r: int, protected: int = 0, unmerged_order: str = 'official') -> TokenMatching:
    """Choose which r tokens merge into which others: bipartite soft matching, section 3.2 of the paper.

    The tokens are dealt in turn to two sets, A (even positions, counted from the first token, protected ones included)
    and B (odd). Each token of A looks for the most similar one of B, by cosine; the r most similar pairs merge.
    Several tokens of A may join the same one of B.

    In which order the tokens of A that stay come out decides which set each is in the next time. The paper does not
    say; the authors' code (facebookresearch/ToMe) leaves them in the order of their positions where there is a class
    token, and else in that of their similarities, the most similar first. It protects registers never, and without a
    class token nothing: there the order by similarity is that of ``protected=0`` here. Equal similarities come in the
    order of their positions here, and in no certain one there.

    Args:
        metric (Tensor): ``(B, N, D)``, what tokens are compared by (the paper: the mean of the keys over the heads), of
            any length and floating dtype; compared in float32 or better. No gradient goes through a choice.
        r (int): How many tokens to remove, >= 0; more than ``(N - protected) // 2`` is that.
        protected (int): Tokens at the start that neither join nor are joined and keep their positions (class token,
            distillation token, registers). Defaults to 0.
        unmerged_order (str): ``'official'``, or ``'position'``: in the order of their positions without protected
            tokens too, as hybridcls did before 0.2. Defaults to ``'official'``.

    Returns:
        TokenMatching: The plan.

    Raises:
        ValueError: If a number is negative, or the order is none of the two.

    Example:
        >>> plan = match_tokens(torch.tensor([[[9., 9.], [1., 0.], [0., 1.], [1., .1], [5., .1]]]), r=1, protected=1)
        >>> plan.kept.tolist(), plan.merged.tolist(), plan.target.tolist()
        ([[0, 2, 1, 3]], [[4]], [[2]])
    """
    batch, length = metric.shape[:2]
    if r < 0 or protected < 0:
        raise ValueError(f'match_tokens: r={r} and protected={protected} must both be 0 or more.')
    check_choice('match_tokens', 'unmerged_order', unmerged_order, UNMERGED_ORDERS)
    positions = torch.arange(length, device=metric.device)
    r = min(r, (length - protected) // 2)
    if r <= 0:
        empty = positions[:0].expand(batch, 0)
        return TokenMatching(positions.expand(batch, -1), empty, empty)
    start_a = protected + protected % 2
    start_b = protected + 1 - protected % 2
    metric = l2_normalize(metric)[0]
    with outside_autocast(metric):  # in bfloat16 far too many pairs would be equally alike
        similarity = metric[:, start_a::2] @ metric[:, start_b::2].transpose(1, 2)
    best, partner = similarity.max(dim=-1)  # (B, |A|)
    order = best.argsort(dim=-1, descending=True, stable=True)
    left_in_a = best.shape[1] - r
    merged, stay = order[:, :r], order[:, r:]
    if protected or unmerged_order == 'position':
        stay = stay.sort(dim=-1).values
    target = partner.gather(1, merged) + (protected + left_in_a)
    kept = torch.cat(
        [positions[:protected].expand(batch, -1), stay * 2 + start_a, positions[start_b::2].expand(batch, -1)], dim=1
    )
    return TokenMatching(kept, merged * 2 + start_a, target)


def merge_tokens(tokens: Tensor, matching: TokenMatching, size: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:
    """Apply a plan: each token becomes the mean of itself and those merged into it, weighted by size.

    Args:
        tokens (Tensor): ``(B, N, C)``, floating.
        matching (TokenMatching): The plan, of :func:`match_tokens`.
        size (Tensor, optional): ``(B, N)``, float32 (float64 for float64 tokens), of how many patches each token is the
            mean already. Defaults to None: one each.

    Returns:
        tuple[Tensor, Tensor]: The ``(B, N - r, C)`` tokens, and their ``(B, N - r)`` sizes.

    Example:
        >>> tokens = torch.tensor([[[9., 9.], [1., 0.], [0., 1.], [1., .1], [5., .1]]])
        >>> merge_tokens(tokens, match_tokens(tokens, r=1, protected=1))[1]
        tensor([[1., 1., 2., 1.]])
    """
    kept, merged, target = matching
    if size is None:
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        size = torch.ones(tokens.shape[:2], dtype=dtype, device=tokens.device)
    joining = size.gather(1, merged)
    new_size = size.gather(1, kept).scatter_add(1, target, joining)
    # The mean moves towards each newcomer by the newcomer's share of it. Whole rows are copied, r of them computed
    # with, which on a CPU is several times faster than a scatter over single numbers.
    share = (joining / new_size.gather(1, target)).to(tokens.dtype)
    rows = tokens.flatten(0, 1)
    result = rows.index_select(0, _row_numbers(kept, tokens.shape[1]))
    targets = _row_numbers(target, kept.shape[1])
    newcomers = rows.index_select(0, _row_numbers(merged, tokens.shape[1]))
    steps = (newcomers - result.index_select(0, targets)) * share.reshape(-1, 1)
    return result.index_add_(0, targets, steps).unflatten(0, kept.shape), new_size


def merged_index_after(matching: TokenMatching) -> Tensor:
    """Return the index of each token after the merge: ``(B, N)`` int64, equal for merged tokens.

    The indices after several merges are ``second.gather(1, first)``.

    Example:
        >>> metric = torch.tensor([[[9., 9.], [1., 0.], [0., 1.], [1., .1], [5., .1]]])
        >>> merged_index_after(match_tokens(metric, r=1, protected=1)).tolist()
        [[0, 2, 1, 3, 2]]
    """
    kept, merged, target = matching
    remaining = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    positions = kept.new_empty(kept.shape[0], kept.shape[1] + merged.shape[1])
    return positions.scatter(1, kept, remaining).scatter(1, merged, target)


def unmerge_tokens(tokens: Tensor, merged_index: Tensor) -> Tensor:
    """Give every original token the value of the merged token that contains it.

    A mean, a maximum or an attention over the result is the size-weighted one over the merged tokens.

    Args:
        tokens (Tensor): ``(B, M, C)``, merged.
        merged_index (Tensor): ``(B, N)`` int64 in [0, M), of :func:`merged_index_after`.

    Returns:
        Tensor: ``(B, N, C)``.
    """
    return (
        tokens.flatten(0, 1)
        .index_select(0, _row_numbers(merged_index, tokens.shape[1]))
        .unflatten(0, merged_index.shape)
    )


def proportional_bias(size: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bias of proportional attention, log of the token size, eq. 1 of the paper.

    Attention then weighs a token as often as it has patches.

    Args:
        size (Tensor): ``(B, N)``, positive.
        dtype (torch.dtype): Of the queries.

    Returns:
        Tensor: ``(B, 1, 1, N)``, to be added to the scaled products of queries and keys.
    """
    return size.log().to(dtype)[:, None, None, :]


def _row_numbers(positions: Tensor, length: int) -> Tensor:
    """Convert positions in each image to row numbers of the flattened batch."""
    first = torch.arange(positions.shape[0], device=positions.device)[:, None] * length
    return (positions + first).flatten()
