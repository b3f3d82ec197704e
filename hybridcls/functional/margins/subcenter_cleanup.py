"""The second step of Sub-center ArcFace: dominant sub-centers of classes, and the distance of each image."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..l2_normalize import l2_normalize

__all__ = ['SubcenterCleanup', 'subcenter_cleanup']

_BLOCK_IMAGES = 4096


class SubcenterCleanup(NamedTuple):
    """Result of :func:`subcenter_cleanup`.

    Args:
        dominant (Tensor): The sub-center that most images of each class are nearest to, int64 (C,).
        nearest (Tensor): The sub-center, among those of its class, that each image is nearest to, int64 (N,).
        angles (Tensor): Between each image and the dominant sub-center of its class, degrees, float64 (N,); NaN where
            the embedding is not finite.
    """

    dominant: Tensor
    nearest: Tensor
    angles: Tensor


def subcenter_cleanup(embeddings: Tensor, labels: Tensor, class_weights: Tensor) -> SubcenterCleanup:
    """Find the dominant sub-centers, and the distance of each image from that of its class.

    The clean-up of `Sub-center ArcFace
    <https://www.ecva.net/papers/eccv_2020/papers_ECCV/papers/123560715.pdf>`_: clean images gather at one sub-center,
    noisy ones at the others. Non-dominant sub-centers are dropped after the training, and so are images that are more
    than 75 degrees from the dominant one; the model is then trained again with one sub-center on what is left. Of
    sub-centers with equally many images the first is dominant, of a class without images too.

    Args:
        embeddings (Tensor): ``(N, D)``, of any norm, of the training images.
        labels (Tensor): int64 ``(N,)``, in [0, C).
        class_weights (Tensor): ``(C, K, D)``, of any norm.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> rows = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [5.0, 1.0]])
        >>> found = subcenter_cleanup(rows, torch.zeros(4).long(), weights)
        >>> found.dominant.tolist(), found.nearest.tolist(), found.angles.round().tolist()
        ([0], [0, 0, 1, 0], [0.0, 45.0, 90.0, 11.0])
    """
    if class_weights.dim() != 3 or embeddings.dim() != 2 or embeddings.shape[1] != class_weights.shape[2]:
        raise ValueError(
            f'subcenter_cleanup: expected embeddings (N, D) and class weights (C, K, D), got {tuple(embeddings.shape)} '
            f'and {tuple(class_weights.shape)}.'
        )
    classes, count = class_weights.shape[:2]
    unit_weights = l2_normalize(class_weights.double().flatten(0, 1))[0].unflatten(0, (classes, count))
    cosines = torch.cat(
        [
            torch.einsum('nd,nkd->nk', l2_normalize(rows.double())[0], unit_weights[own])
            for rows, own in zip(embeddings.split(_BLOCK_IMAGES), labels.split(_BLOCK_IMAGES), strict=True)
        ]
    )
    nearest = cosines.nan_to_num(-1).argmax(1)
    finite = embeddings.isfinite().all(1)
    votes = torch.bincount((labels * count + nearest)[finite], minlength=classes * count).view(classes, count)
    dominant = votes.argmax(1)
    of_dominant = cosines.gather(1, dominant[labels].unsqueeze(1)).squeeze(1)
    angles = torch.rad2deg(torch.acos(of_dominant.clamp(-1, 1)))
    return SubcenterCleanup(dominant, nearest, angles.masked_fill(~finite, torch.nan))
