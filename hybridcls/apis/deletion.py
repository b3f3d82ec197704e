"""The deletion metric of activation maps: remove the marked pixels, and measure how fast the probability falls."""

from typing import Any, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridcls.models.heads.head import outputs_of

from .inferencer import HybridInferencer

__all__ = ['DeletionGains', 'deletion_areas', 'deletion_ends', 'deletion_gains', 'moved_maps', 'passes_of_gains']

STEPS, DRAWS = 5, 3
_BATCH = 64


@torch.no_grad()
def deletion_areas(
    model: HybridInferencer, images: Tensor, maps: Tensor, labels: Tensor, ends: Optional[Tensor] = None
) -> Tensor:
    """Return the area under the curve of a class's probability while pixels are deleted, the most important first.

    The deletion score of `RISE <https://arxiv.org/abs/1806.07421>`_: a fifth of the pixels after the other takes the
    mean colour of its image; small where the map marks what the class rests on. Maps are enlarged to the image by
    bilinear interpolation.

    Args:
        model (HybridInferencer): With classes.
        images (Tensor): ``(B, 3, H, W)``, as the model is called with.
        maps (Tensor): ``(B, h, w)``, higher is more important.
        labels (Tensor): The classes, int64 ``(B,)``.
        ends (Tensor, optional): Of :func:`deletion_ends`, which are the same for all maps. Defaults to None: they are
            computed.

    Returns:
        Tensor: float64 ``(B,)``, in [0, 1].
    """
    count, height, width = len(images), *images.shape[-2:]
    large = F.interpolate(maps.unsqueeze(1).float(), (height, width), mode='bilinear', align_corners=False)
    ranks = large.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view(count, 1, height, width)
    ranks = ranks.to(images.device)
    first, last = deletion_ends(model, images, labels) if ends is None else ends
    between = [_probabilities(model, images, ranks, step, labels) for step in range(1, STEPS)]
    values = torch.stack([first, *between, last])
    return (values[:-1] + values[1:]).mean(0) / 2


@torch.no_grad()
def deletion_ends(model: HybridInferencer, images: Tensor, labels: Tensor) -> Tensor:
    """Return the probabilities with nothing deleted and with everything deleted, float64 ``(2, B)``."""
    ranks = torch.zeros(len(images), 1, *images.shape[-2:], dtype=torch.int64, device=images.device)
    return torch.stack([_probabilities(model, images, ranks, step, labels) for step in (0, STEPS)])


def _probabilities(model: HybridInferencer, images: Tensor, ranks: Tensor, step: int, labels: Tensor) -> Tensor:
    network: Any = model.model
    deleted = torch.where(ranks < step * images[0, 0].numel() // STEPS, images.mean(dim=(2, 3), keepdim=True), images)
    with model.precision():
        scores = [
            outputs_of(network.head, network.extract_feat(part))['probabilities'].double().cpu()
            for part in deleted.split(_BATCH)
        ]
    return torch.cat(scores).gather(1, labels.unsqueeze(1)).squeeze(1)


class DeletionGains(NamedTuple):
    """The reduction of the deletion area against maps that do not know the image, for each of B images.

    Args:
        moved (Tensor): Than with the same map, moved at random: shifted around the edges, mirrored, transposed. float64
            ``(B,)``.
        others (Tensor): Than with maps of other images, float64 ``(B,)``; NaN without others.
    """

    moved: Tensor
    others: Tensor


def deletion_gains(
    model: HybridInferencer,
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    others: Optional[Tensor] = None,
    draws: int = DRAWS,
    seed: int = 0,
    ends: Optional[Tensor] = None,
) -> DeletionGains:
    """Return how much smaller the deletion area is than with moved maps, and than with maps of other images.

    Both have regions of the same kind: single places that lie apart disturb an image more than one region of their
    size does, so the areas of maps of noise are small, too. The mean over images is 0 for maps that mark any place
    (moved), or the place that they mark in any image, such as the middle (others).

    Args:
        model, images, maps, labels: As for :func:`deletion_areas`.
        others (Tensor, optional): ``(D, B, h, w)``, D maps of other images for each. Defaults to None.
        draws (int): Moves of each map. Defaults to 3.
        seed (int): Of these. Defaults to 0.
        ends (Tensor, optional): As for :func:`deletion_areas`.
    """
    generator = torch.Generator().manual_seed(seed)
    ends = deletion_ends(model, images, labels) if ends is None else ends
    own = deletion_areas(model, images, maps, labels, ends)
    moved = torch.stack([moved_maps(maps, generator) for _ in range(draws)])
    return DeletionGains(*(
        torch.full_like(own, float('nan')) if wrong is None or not len(wrong)
        else torch.stack([deletion_areas(model, images, one, labels, ends) for one in wrong]).mean(0) - own
        for wrong in (moved, others)
    ))  # fmt: skip


def passes_of_gains(streams: int, others: int, draws: int = DRAWS) -> int:
    """Return how many forward passes per image :func:`deletion_gains` needs, for all streams together."""
    return streams * (1 + draws + others) * (STEPS - 1) + 2


def moved_maps(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Return each map ``(B, h, w)`` rolled around the edges, and randomly mirrored and, if square, transposed."""
    height, width = maps.shape[1:]
    moved = []
    for one in maps:
        place = int(torch.randint(height * width, (), generator=generator))
        mirrored, transposed = torch.randint(0, 2, (2,), generator=generator).bool().tolist()
        if transposed and height == width:
            one = one.T
        if mirrored:
            one = one.flip(1)
        moved.append(one.roll(divmod(place, width), (0, 1)))
    return torch.stack(moved)
