"""Nearest neighbours by cosine similarity and their votes, without a matrix of all pairs."""

from collections.abc import Callable
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..full_precision import WITHOUT_FLOAT64
from ..l2_normalize import inverse_norms
from .neighbour_candidates import find_candidates, rounding_error
from .neighbour_order import NOT_THERE, keys_of, l2_normalize64, read_keys

__all__ = ['Candidates', 'nearest_neighbours', 'vote_ranks']

Candidates = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Another search: float32 queries ``(N, D)``, L2-normalized, and a number K to ``(N, K)`` similarities and positions
(-1: none)."""

_MOST_QUERIES = 8192  # that meet a block of the bank while it is normalized
_BLOCK_NUMBERS = 2**22  # float64 numbers in one block of exact similarities, 32 MiB
_PAIRS_AT_ONCE = 512  # that stay in the cache
_SPARE = 32  # candidates beyond k: near ties that rounding may have put in any order


def nearest_neighbours(
    queries: Tensor,
    bank: Optional[Tensor],
    k: int,
    device: Optional[torch.device] = None,
    candidates: Optional[Candidates] = None,
) -> tuple[Tensor, Tensor]:
    """Find the ``k`` entries of ``bank`` with the largest cosine similarity to each query.

    Similarities are those of float64, rounded to float32, and to 0 within 1e-13 of a right angle, where sums in another
    order differ; of equal ones the smaller position comes first. So the answer is the same for any block size, number
    of threads, device and ``candidates``. A float32 product finds candidates, with room for all that its rounding could
    hide, and only these are computed again; queries with more near ties than there is room for meet the whole bank in
    float64.

    Blocks of queries meet blocks of the bank and only the best so far are kept: the memory on ``device`` does not grow
    with the length of either. The bank is read block by block, so it may be a mapped file.

    A row that is not finite has the similarity -inf to everything, and comes last; a row of zeros has 0.

    Args:
        queries (Tensor): ``(N, D)``, of any length; any floating dtype.
        bank (Tensor, optional): ``(M, D)``. None: the queries are searched among themselves, each leaving itself out.
        k (int): How many, 1 <= k <= M (N - 1 without a bank).
        device (torch.device, optional): Where to compute; the tensors may lie elsewhere. Defaults to the queries'.
        candidates (Callable, optional): What finds candidates in ``bank`` instead, :data:`Candidates`.

    Returns:
        tuple[Tensor, Tensor]: On the CPU, ``(N, k)`` float32 similarities in [-1, 1] (or -inf) in falling order, and
        ``(N, k)`` int64 positions in the bank.

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
    similarities = torch.empty(len(queries), k)
    positions = torch.empty(len(queries), k, dtype=torch.int64)
    for begin in range(0, len(queries), _MOST_QUERIES):
        block = queries[begin : begin + _MOST_QUERIES]
        own = torch.arange(begin, begin + len(block)) if among_themselves else None
        keys = _nearest(block, own, bank, k, device, candidates)
        similarities[begin : begin + len(block)], positions[begin : begin + len(block)] = read_keys(keys)
    return similarities, positions


def _nearest(
    queries: Tensor,
    own: Optional[Tensor],
    bank: Tensor,
    k: int,
    device: torch.device,
    candidates: Optional[Candidates],
) -> Tensor:
    """Return the keys of the neighbours of a block of queries, int64 (N, k) on the CPU."""
    room = k + _SPARE
    if 4 * room > len(bank):  # little would be saved
        return _of_all(queries, own, bank, k, device)
    found, index = find_candidates(queries, own, bank, room, k, device, candidates)
    bound = found.topk(k, dim=1).values[:, -1:] - 2 * rounding_error(queries.shape[1])
    near = found >= bound
    keys = torch.full(found.shape, NOT_THERE)
    keys[near] = _keys_of_pairs(queries, bank, near.nonzero()[:, 0], index[near])
    keys = keys.topk(k, dim=1).values
    unsure = (near.all(1) | (near.sum(1) < k)).nonzero().squeeze(1)  # or not finite: nothing is near
    if len(unsure):
        keys[unsure] = _of_all(queries[unsure], None if own is None else own[unsure], bank, k, device)
    return keys


def _keys_of_pairs(queries: Tensor, bank: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """Return the keys of some pairs of a query and a row of the bank, on the CPU."""
    units = l2_normalize64(queries.cpu()).numpy()
    cosines = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        of_bank = bank[index[part].to(bank.device)].cpu().double()
        # Without the product as a tensor of its own; each row is added up in the same order.
        cosines[part] = (
            np.einsum('ij,ij->i', units[rows[part].numpy()], of_bank.numpy()) * inverse_norms(of_bank).numpy()
        )
    return keys_of(torch.from_numpy(cosines), index)


def _of_all(queries: Tensor, own: Optional[Tensor], bank: Tensor, k: int, device: torch.device) -> Tensor:
    """Compare queries with the complete bank in float64; return the keys, int64 (N, k) on the CPU."""
    if device.type in WITHOUT_FLOAT64:
        device = torch.device('cpu')
    most_queries = max(1, min(1024, _BLOCK_NUMBERS // k))
    bank_rows = max(1, _BLOCK_NUMBERS // most_queries)
    results = []
    for rows in torch.arange(len(queries)).split(most_queries):
        block = l2_normalize64(queries[rows].to(device))
        best = torch.empty(len(block), 0, dtype=torch.int64, device=device)
        for start in range(0, len(bank), bank_rows):
            part = l2_normalize64(bank[start : start + bank_rows].to(device))
            keys = keys_of(block @ part.T, torch.arange(start, start + len(part), device=device))
            if own is not None:
                place = own[rows].to(device) - start
                inside = ((place >= 0) & (place < len(part))).nonzero().squeeze(1)
                keys[inside, place[inside]] = NOT_THERE
            merged = torch.cat([best, keys], 1)
            best = merged.topk(min(k, merged.shape[1]), dim=1).values
        results.append(best.cpu())
    return torch.cat(results)


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
