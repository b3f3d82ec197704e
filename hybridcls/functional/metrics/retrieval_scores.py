"""Retrieval scores of a ranked list of neighbours: recall, R-precision, average precision."""

import torch
from torch import Tensor

__all__ = ['average_precision', 'map_at_r', 'precision_at_r', 'recall_at', 'reciprocal_rank']


def recall_at(hits: Tensor, k: int) -> Tensor:
    """Return whether one of the first ``k`` neighbours has the target class, the Recall@k of metric learning.

    Args:
        hits (Tensor): Whether each neighbour, nearest first, is of the target class: bool (N, at least k).
        k (int): How many are looked at.

    Returns:
        Tensor: bool (N,).

    Example:
        >>> hits = torch.tensor([[False, True, True]])
        >>> recall_at(hits, 1).item(), recall_at(hits, 2).item()
        (False, True)
    """
    return hits[:, :k].any(1)


def precision_at_r(hits: Tensor, matches: Tensor) -> Tensor:
    """Return R-precision: the share of the target class among the R nearest, R its number of other images.

    Args:
        hits (Tensor): As for :func:`recall_at`, (N, at least max(matches)).
        matches (Tensor): R, how many others of the target class there are, >= 1, int64 (N,).

    Returns:
        Tensor: float64 (N,).

    Example:
        >>> precision_at_r(torch.tensor([[True, False, True]]), torch.tensor([2])).item()
        0.5
    """
    return _first_r(hits, matches).sum(1).double() / matches


def map_at_r(hits: Tensor, matches: Tensor) -> Tensor:
    r"""Return MAP@R: :math:`\frac1R \sum_{i=1}^{R} P(i)\, [i \text{ is a hit}]`, P(i) the precision of the first i.

    Sec. 3.2 of `A Metric Learning Reality Check <https://arxiv.org/abs/2003.08505>`_. Unlike Recall@1 it sees the whole
    class, and unlike R-precision the order.

    Args:
        hits (Tensor): As for :func:`recall_at`, (N, at least max(matches)).
        matches (Tensor): R, how many others of the target class there are, >= 1, int64 (N,).

    Returns:
        Tensor: float64 (N,).

    Example:
        >>> round(map_at_r(torch.tensor([[True, False, True]]), torch.tensor([3])).item(), 4)  # (1 + 2/3) / 3
        0.5556
    """
    counted = _first_r(hits, matches)
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    precision = counted.cumsum(1).double() / ranks
    return (precision * counted).sum(1) / matches


def average_precision(hits: Tensor, matches: Tensor) -> Tensor:
    r"""Return AP: :math:`\frac1R \sum_i P(i)\, [i \text{ is a hit}]` over the list, P(i) the precision of the first i.

    The mean over queries is the MAP of information retrieval. MAP@R stops at R and ignores what is found later. Where
    the list is ranked without ties it is scikit-learn's ``average_precision_score``.

    Args:
        hits (Tensor): As for :func:`recall_at`, (N, all there are).
        matches (Tensor): R, how many others of the target class there are, >= 1, int64 (N,).

    Returns:
        Tensor: float64 (N,).

    Example:
        >>> round(average_precision(torch.tensor([[False, True, False, True]]), torch.tensor([2])).item(), 4)
        0.5
    """
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (hits.cumsum(1).double() / ranks * hits).sum(1) / matches


def reciprocal_rank(hits: Tensor) -> Tensor:
    """Return one over the rank of the first neighbour with the target class, 0 without one; its mean is the MRR.

    Args:
        hits (Tensor): As for :func:`recall_at`, (N, all there are).

    Returns:
        Tensor: float64 (N,).

    Example:
        >>> reciprocal_rank(torch.tensor([[False, True, True], [False, False, False]])).tolist()
        [0.5, 0.0]
    """
    ranks = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
    return (hits / ranks).amax(1)


def _first_r(hits: Tensor, matches: Tensor) -> Tensor:
    return hits & (torch.arange(hits.shape[1], device=hits.device) < matches.unsqueeze(1))
