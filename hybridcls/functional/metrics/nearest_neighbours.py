"""Nearest neighbours by cosine similarity, and what they vote for; no matrix of all pairs."""

from typing import Optional

import torch
from torch import Tensor

from ..l2_normalize import l2_normalize
from ..product_precision import multiply

__all__ = ['nearest_neighbours', 'vote_ranks']

# Float32 numbers in one block of similarities, 64 MiB: large enough for a fast matmul, small beside the model.
_BLOCK_NUMBERS = 2**24
_MOST_QUERIES = 1024


def nearest_neighbours(
    queries: Tensor, bank: Optional[Tensor], k: int, device: Optional[torch.device] = None
) -> tuple[Tensor, Tensor]:
    """Find the ``k`` entries of ``bank`` with the largest cosine similarity to each query.

    Blocks of queries meet blocks of the bank and only the best ``k`` so far are kept, so that the memory on ``device``
    does not grow with the length of either.

    Args:
        queries (Tensor): ``(N, D)``, finite, of any length; any floating dtype, computed in float32.
        bank (Tensor, optional): ``(M, D)``. None: the queries are searched among themselves, each leaving itself out.
        k (int): How many, 1 <= k <= M (N - 1 without a bank).
        device (torch.device, optional): Where to compute; the tensors may lie elsewhere. Defaults to the queries'.

    Returns:
        tuple[Tensor, Tensor]: On the CPU, ``(N, k)`` float32 similarities in [-1, 1] in falling order, and ``(N, k)``
        int64 positions in the bank. Among equal similarities the order is not defined.

    Raises:
        ValueError: If the shapes do not fit or ``k`` is out of range.

    Example:
        >>> similarity, index = nearest_neighbours(torch.tensor([[2., 0.]]), torch.tensor([[0., 1.], [1., 1.]]), k=1)
        >>> index.item(), round(similarity.item(), 3)
        (1, 0.707)
    """
    among_themselves = bank is None
    if bank is None:
        bank = queries
    if queries.dim() != 2 or bank.dim() != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f'nearest_neighbours: queries {tuple(queries.shape)} and bank {tuple(bank.shape)} '
            'are not (N, D) and (M, D).'
        )
    available = len(bank) - among_themselves
    if not 1 <= k <= available:
        raise ValueError(f'nearest_neighbours: expected k in [1, {available}], the number of candidates, got {k}.')
    device = queries.device if device is None else torch.device(device)
    bank_rows = max(k, _BLOCK_NUMBERS // _MOST_QUERIES)
    similarities, positions = [], []
    for begin in range(0, len(queries), _MOST_QUERIES):
        block = l2_normalize(queries[begin : begin + _MOST_QUERIES].to(device).float())[0]
        best = block.new_empty(len(block), 0)
        where = torch.empty(len(block), 0, dtype=torch.int64, device=device)
        for start in range(0, len(bank), bank_rows):
            part = l2_normalize(bank[start : start + bank_rows].to(device).float())[0]
            similarity = multiply(block, part.T, 'float32')  # (queries in block, bank in block)
            if among_themselves:
                own = torch.arange(begin, begin + len(block), device=device) - start
                inside = (own >= 0) & (own < len(part))
                similarity[inside.nonzero().squeeze(1), own[inside]] = -torch.inf
            top, index = similarity.topk(min(k, len(part)), dim=1)
            merged, kept = torch.cat([best, top], 1).topk(min(k, best.shape[1] + top.shape[1]), dim=1)
            where = torch.cat([where, index + start], 1).gather(1, kept)
            best = merged
        similarities.append(best.cpu())
        positions.append(where.cpu())
    return torch.cat(similarities), torch.cat(positions)


def vote_ranks(neighbour_labels: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
    """Rank each query's target class by the votes of its neighbours.

    A class's votes are the sum of the weights of its neighbours. Classes without a neighbour have no rank: where the
    target class is among them, its rank is the largest int64, since any other answer would be chance. Of classes with
    equal votes the smaller label comes first, as in scikit-learn's ``KNeighborsClassifier``.

    Memory is ``N k^2``, whatever the number of classes.

    Args:
        neighbour_labels (Tensor): ``(N, k)`` int64.
        weights (Tensor): ``(N, k)``, non-negative.
        labels (Tensor): ``(N,)`` int64, the true classes.

    Returns:
        Tensor: ``(N,)`` int64, 0 where the target class has most votes.

    Example:
        >>> vote_ranks(torch.tensor([[7, 7, 3]]), torch.ones(1, 3), torch.tensor([3])).item()
        1
    """
    same = neighbour_labels[:, :, None] == neighbour_labels[:, None, :]  # (N, k, k)
    votes = (same * weights[:, None, :]).sum(-1)  # of each neighbour's class, (N, k)
    # A class is counted at its first neighbour only.
    first = ~same.tril(-1).any(-1)
    own = neighbour_labels == labels[:, None]
    own_votes = (own * weights).sum(-1, keepdim=True)
    ahead = (votes > own_votes) | ((votes == own_votes) & (neighbour_labels < labels[:, None]))
    rank = (ahead & first & ~own).sum(-1)
    return rank.masked_fill(~own.any(-1), torch.iinfo(torch.int64).max)
