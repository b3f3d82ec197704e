"""Retrieval scores of a ranked list of neighbours: recall, R-precision, average precision."""

import torch
from torch import Tensor

__all__ = ['map_at_r', 'precision_at_r', 'recall_at']


def recall_at(hits: Tensor, k: int) -> Tensor:
    """Whether one of the first ``k`` neighbours is of the own class, as metric learning has it since SOP and CUB.

    Args:
        hits (Tensor): Whether each neighbour, nearest first, is of the own class: bool (N, at least k).
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
    """R-precision: the share of the target class among as many neighbours as there are others of that class.

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
    r"""MAP@R: :math:`\frac1R \sum_{i=1}^{R} P(i)\, [i \text{ is a hit}]`, P(i) the precision of the first i.

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


def _first_r(hits: Tensor, matches: Tensor) -> Tensor:
    return hits & (torch.arange(hits.shape[1], device=hits.device) < matches.unsqueeze(1))
