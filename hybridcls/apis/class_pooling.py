"""Pool several images of a class into one entry of a gallery."""

from collections.abc import Iterable

import torch
from torch import Tensor

from hybridcls.functional.metrics.neighbour_order import NOT_THERE, l2_normalize64

__all__ = ['POOLS', 'class_sums', 'class_vectors', 'first_of_each_class', 'pool_weights']

POOLS = ('none', 'max', 'mean', 'prototype', 'quality')
"""How the images of a class are compared with a query: each alone; by the most similar one; by the mean of their
similarities; by the similarity to the mean of the L2-normalized embeddings; the same with the norms as weights."""


def pool_weights(vectors: Tensor, pool: str) -> Tensor:
    """Return the term of each image in the sum of its class, float64 (N, D); zeros for non-finite embeddings."""
    rows = vectors.double() if pool == 'quality' else l2_normalize64(vectors)
    return rows.masked_fill(~rows.isfinite().all(1, keepdim=True), 0.0)


def class_sums(blocks: Iterable[Tensor], class_of: Tensor, number: int, width: int, pool: str) -> Tensor:
    """Add up the images of each class.

    Args:
        blocks (Iterable[Tensor]): The vectors (N, D) in order, some at once.
        class_of (Tensor): Class of each image, int64 (N,); -1: of none.
        number (int): C, the number of classes.
        width (int): D.
        pool (str): ``'mean'``, ``'prototype'`` or ``'quality'``.

    Returns:
        Tensor: Float64 (C, D).
    """
    sums = torch.zeros(number + 1, width, dtype=torch.float64)
    start = 0
    for block in blocks:
        of_block = class_of[start : start + len(block)]
        sums.index_add_(0, of_block.where(of_block >= 0, number), pool_weights(block, pool))
        start += len(block)
    return sums[:-1]


def class_vectors(sums: Tensor, counts: Tensor, pool: str) -> Tensor:
    """Return rows whose cosine similarity to a query (with a zero appended for ``'mean'``) is the pooled one.

    The mean of the similarities is the product with the mean of L2-normalized rows, which is shorter than 1: one more
    number makes its length 1.

    Args:
        sums (Tensor): Of :func:`class_sums`, (C, D).
        counts (Tensor): Images of each class, (C,).
        pool (str): As there.

    Returns:
        Tensor: Float64 (C, D), or (C, D + 1) for ``'mean'``.

    Example:
        >>> sums = torch.tensor([[1., 1.]], dtype=torch.float64)  # of two images at a right angle
        >>> [round(value, 3) for value in class_vectors(sums, torch.tensor([2]), 'mean').square()[0].tolist()]
        [0.25, 0.25, 0.5]
    """
    if pool != 'mean':
        return sums
    means = sums / counts.unsqueeze(1)
    return torch.cat([means, (1 - means.square().sum(1, keepdim=True)).clamp(min=0).sqrt()], 1)


def first_of_each_class(keys: Tensor, classes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Keep the first image of each class in a ranked list.

    Args:
        keys (Tensor): Of ranked images, in falling order, int64 (N, M); ``NOT_THERE`` is none.
        classes (Tensor): Of these images, int64 (N, M).
        k (int): How many classes, at most M.

    Returns:
        tuple[Tensor, Tensor]: The keys of the k first ones, (N, k), and the number of different classes, (N,).
    """
    ordered, order = classes.sort(dim=1, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    kept = torch.zeros_like(first).scatter_(1, order, first) & (keys != NOT_THERE)
    return keys.masked_fill(~kept, NOT_THERE).topk(k, dim=1).values, kept.sum(1)
