"""Split conformal prediction: sets that contain the right class, or match, with a stated probability."""

import math
from typing import Optional

import torch
from torch import Tensor

from hybridcls.checks import check_number

from ..full_precision import to_float64

__all__ = ['conformal_threshold', 'images_for_sets', 'match_sets', 'match_threshold']


def images_for_sets(alpha: float) -> int:
    """Return the minimum number of images for :func:`conformal_threshold`.

    Example:
        >>> images_for_sets(0.05)
        19
    """
    return math.ceil(1 / alpha - 1e-9) - 1


def conformal_threshold(right_scores: Tensor, alpha: float) -> Optional[float]:
    r"""Return the threshold t such that sets of all entries with score >= t contain the right one with 1 - alpha.

    Of N + 1 exchangeable images each is equally likely to have the k-th smallest score of its right class; with the
    k-th smallest of N, :math:`k = \lfloor \alpha (N + 1) \rfloor`, as threshold, the right class of a new image is in
    its set with a probability of at least 1 - alpha: an average over draws of the N images and of the new one (`Vovk et
    al. <https://arxiv.org/abs/math/0405045>`_; as MAPIE's conformity score ``'lac'``).

    Args:
        right_scores (Tensor): The score of each image's right class, shape (N,); NaN is below all.
        alpha (float): In (0, 1).

    Returns:
        float, optional: None if there are fewer images than :func:`images_for_sets`.

    Example:
        >>> conformal_threshold(torch.tensor([0.9, 0.25, 0.75, 0.5]), alpha=0.4)
        0.5
    """
    check_number('conformal_threshold', 'alpha', alpha, 0, 1, low_open=True, high_open=True)
    rank = math.floor(alpha * (len(right_scores) + 1) + 1e-9)
    return float(_or_least(right_scores).kthvalue(rank).values) if rank else None


def match_threshold(similarities: Tensor, is_right: Tensor, alpha: float) -> Optional[float]:
    """Return the threshold for :func:`match_sets` that contain a right match with a probability of at least 1 - alpha.

    The probability is that of queries that have a match in the gallery, if they are drawn as these were and search the
    same gallery.

    Args:
        similarities (Tensor): Of Q queries to G entries of the gallery (images, or classes), higher is nearer, (Q, G);
            NaN is furthest.
        is_right (Tensor): bool, (Q, G): whether the entry is of the query's class. Queries without any are left out.
        alpha (float): In (0, 1).

    Returns:
        float, optional: None if fewer queries have a match than :func:`images_for_sets`.

    Example:
        >>> similarities = torch.tensor([[0.9, 0.1], [0.3, 0.75], [0.2, 0.5]])
        >>> is_right = torch.tensor([[True, False], [False, True], [False, False]])
        >>> match_threshold(similarities, is_right, alpha=0.5)
        0.75
    """
    best = _or_least(similarities).masked_fill(~is_right, -torch.inf).amax(1)[is_right.any(1)]
    return conformal_threshold(best, alpha)


def match_sets(similarities: Tensor, threshold: float, at_least: int = 0) -> list[Tensor]:
    """Return the possible matches of each query in the gallery, the nearest first; an empty set means no match.

    The sets of classes of an image are such, too, of its scores.

    Args:
        similarities (Tensor): Shape (Q, G); what is NaN is in no set.
        threshold (float): Of :func:`match_threshold`, or of :func:`conformal_threshold`.
        at_least (int): How many entries a set has at least. Defaults to 0.

    Returns:
        list[Tensor]: Q vectors of int64.

    Example:
        >>> match_sets(torch.tensor([[0.6, 0.1, 0.9], [0.2, 0.1, 0.3]]), threshold=0.5)
        [tensor([2, 0]), tensor([], dtype=torch.int64)]
    """
    values, order = _or_least(similarities).sort(dim=1, descending=True, stable=True)
    counts = ((values >= threshold) & (values > -torch.inf)).sum(1).clamp_min(at_least)
    return [row[:count] for row, count in zip(order, counts.tolist(), strict=True)]


def _or_least(scores: Tensor) -> Tensor:
    """Return scores in float64, with NaN replaced by -inf, since torch sorts NaN as the largest number."""
    return to_float64(scores).nan_to_num(-torch.inf, torch.inf, -torch.inf)
