"""Whether an activation map says where an answer comes from: remove what it marks, and see the probability fall."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.runner.amp import autocast
from torch import Tensor

from hybridcls.models.heads.head import outputs_of

from .inferencer import HybridInferencer

__all__ = ['deletion_areas', 'deletion_gain']

STEPS = 10
_BATCH = 64


@torch.no_grad()
def deletion_areas(model: HybridInferencer, images: Tensor, maps: Tensor, labels: Tensor) -> Tensor:
    """Return the area under the probability of a class while an image is deleted, the most important pixels first.

    The deletion score of `RISE <https://arxiv.org/abs/1806.07421>`_: a tenth of the pixels after the other takes the
    mean colour of its image; small where the map marks what the class rests on. Maps are enlarged to the image by
    bilinear interpolation.

    Args:
        model (HybridInferencer): With classes.
        images (Tensor): ``(B, 3, H, W)``, as the model is called with.
        maps (Tensor): ``(B, h, w)``, higher is more important.
        labels (Tensor): The classes, int64 ``(B,)``.

    Returns:
        Tensor: float64 ``(B,)``, in [0, 1].
    """
    network: Any = model.model
    count, height, width = len(images), *images.shape[-2:]
    large = F.interpolate(maps.unsqueeze(1).float(), (height, width), mode='bilinear', align_corners=False)
    ranks = large.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view(count, 1, height, width)
    ranks = ranks.to(images.device)
    colour = images.mean(dim=(2, 3), keepdim=True)
    probabilities = []
    for step in range(STEPS + 1):
        deleted = torch.where(ranks < step * height * width // STEPS, colour, images)
        with autocast(enabled=model.amp):
            scores = [
                outputs_of(network.head, network.extract_feat(part))['probabilities'].double().cpu()
                for part in deleted.split(_BATCH)
            ]
        probabilities.append(torch.cat(scores).gather(1, labels.unsqueeze(1)).squeeze(1))
    values = torch.stack(probabilities)
    return (values[:-1] + values[1:]).mean(0) / 2


def deletion_gain(
    model: HybridInferencer, images: Tensor, maps: Tensor, labels: Tensor, draws: int = 2, seed: int = 0
) -> Tensor:
    """Return by how much the area is smaller than with random maps of the same number of places, float64 ``(B,)``.

    Above 0, the maps mark more of what the class rests on than a random order does; the mean over images is 0 for maps
    that say nothing.

    Args:
        model, images, maps, labels: As for :func:`deletion_areas`.
        draws (int): Random maps an image. Defaults to 2.
        seed (int): Of these. Defaults to 0.
    """
    generator = torch.Generator().manual_seed(seed)
    random = [deletion_areas(model, images, torch.rand(maps.shape, generator=generator), labels) for _ in range(draws)]
    return torch.stack(random).mean(0) - deletion_areas(model, images, maps, labels)
