"""Augment complete batches on the model's device, each image by separate draws."""

import math
from collections.abc import Sequence
from typing import Optional, Union

import torch
from mmengine.dist import get_rank
from torch import Tensor, nn
from torch.nn import functional as F

from hybridcls.checks import check_number
from hybridcls.functional.color_adjustment import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grayscale,
)
from hybridcls.registry import MODELS

__all__ = ['DeviceAugment']

_ATTEMPTS = 10  # at a crop that lies inside the image, as torchvision


@MODELS.register_module()
class DeviceAugment(nn.Module):
    """Crop, flip, jitter and erase a batch on the device, in one or several views of each image.

    For ``data_preprocessor=dict(device_augment=dict(type='DeviceAugment', ...))``: the pipeline then only loads images
    and resizes them to one size, somewhat larger than the output. Crops are sampled bilinearly, without antialiasing:
    where a crop has twice the pixels of the output or more, ``RandomCropToSize`` in the pipeline is better.

    The distributions are those of torchvision's ``RandomResizedCrop``, ``RandomHorizontalFlip``, ``ColorJitter`` (one
    order of its four operations for a batch), ``RandomGrayscale`` and ``RandomErasing`` with a fixed colour. All is
    drawn on the CPU, from torch's generator and the rank of the process: the same draws on each device, others in each
    process, and the same after a resume.

    Args:
        img_size (int | Sequence[int], optional): Output size in pixels, one number or (height, width), of a random
            crop. Defaults to None: images keep their size.
        crop_ratio_range (Sequence[float]): Smallest and largest share of the area. Defaults to (0.08, 1.0).
        ratio (Sequence[float]): Smallest and largest width / height of the crop. Defaults to (3/4, 4/3).
        flip_prob (float): How often an image is mirrored, in [0, 1]. Defaults to 0.5.
        brightness (float), contrast (float), saturation (float): Factors are uniform in 1 -+ this, in [0, 1]. Default
            to 0.
        hue (float): Shifts are uniform in -+ this, in [0, 0.5] of the circle. Defaults to 0.
        jitter_prob (float): How often these four are applied, in [0, 1]. Defaults to 1.
        grayscale_prob (float): How often the colours are taken away, in [0, 1]. Defaults to 0.
        erase_prob (float): How often a rectangle of 2 % to a third of the area is erased, in [0, 1]. Defaults to 0.
        fill_color (Sequence[float]): Its colour, R, G, B in [0, 255]. Defaults to (124, 116, 104).
        num_views (int): Views of each image. Defaults to 1.

    Shape:
        - images: ``(B, 3, H, W)`` RGB in [0, 255], uint8 or float.
        - returns: float32 ``(num_views * B, 3, height, width)`` in [0, 255]: the first view of all images, then the
          second, ...

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> augment = DeviceAugment(img_size=8, brightness=0.4, num_views=2)
        >>> augment(torch.zeros(4, 3, 10, 12, dtype=torch.uint8)).shape
        torch.Size([8, 3, 8, 8])
    """

    def __init__(
        self,
        img_size: Union[int, Sequence[int], None] = None,
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        jitter_prob: float = 1.0,
        grayscale_prob: float = 0.0,
        erase_prob: float = 0.0,
        fill_color: Sequence[float] = (124, 116, 104),
        num_views: int = 1,
    ) -> None:
        super().__init__()
        shares = dict(flip_prob=flip_prob, jitter_prob=jitter_prob, grayscale_prob=grayscale_prob)
        factors = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        for name, value in (shares | dict(erase_prob=erase_prob) | factors).items():
            check_number('DeviceAugment', name, value, 0, 1)
        check_number('DeviceAugment', 'hue', hue, 0, 0.5)
        check_number('DeviceAugment', 'num_views', num_views, 1, integer=True)
        for name, given, most in (('crop_ratio_range', crop_ratio_range, 1.0), ('ratio', ratio, math.inf)):
            if len(given) != 2 or not 0 < given[0] <= given[1] <= most:
                raise ValueError(
                    f'DeviceAugment: expected {name} as 0 < smallest <= largest <= {most:g}, got {given!r}.'
                )
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size: Optional[tuple[int, ...]] = None if size is None else tuple(size)
        for side in self.img_size or ():
            check_number('DeviceAugment', 'img_size', side, 1, integer=True, advice='Sizes are pixels.')
        self.crop_ratio_range, self.ratio = crop_ratio_range, ratio
        self.flip_prob, self.jitter_prob = flip_prob, jitter_prob
        self.grayscale_prob, self.erase_prob = grayscale_prob, erase_prob
        self.jitters = [
            (adjust, low, high, neutral)
            for adjust, low, high, neutral in (
                (adjust_brightness, 1 - brightness, 1 + brightness, 1),
                (adjust_contrast, 1 - contrast, 1 + contrast, 1),
                (adjust_saturation, 1 - saturation, 1 + saturation, 1),
                (adjust_hue, -hue, hue, 0),
            )
            if low < high
        ]
        self.fill_color = fill_color
        self.num_views = num_views

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the views of a batch."""
        generator = torch.Generator()
        generator.manual_seed(int(torch.randint(2**62, ())) + get_rank())
        return torch.cat([self._view(images.float() / 255, generator) for _ in range(self.num_views)]) * 255

    def _view(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one view of images in [0, 1]."""
        count, _, height, width = images.shape

        def happens(share: float) -> Tensor:
            return torch.rand(count, generator=generator) < share

        flipped = happens(self.flip_prob)
        if self.img_size is None:
            images = torch.where(_across(flipped, images), images.flip(-1), images)
        else:
            images = self._cropped(images, self.draw_crops(count, height, width, generator), flipped)
        jittered = happens(self.jitter_prob)
        for number in torch.randperm(len(self.jitters), generator=generator).tolist():
            adjust, low, high, neutral = self.jitters[number]
            factors = torch.empty(count).uniform_(low, high, generator=generator).where(jittered, torch.tensor(neutral))
            images = adjust(images, factors.to(images))
        if self.grayscale_prob:
            grey = _across(happens(self.grayscale_prob), images)
            images = torch.where(grey, grayscale(images).expand_as(images), images)
        if self.erase_prob:
            high, wide = images.shape[2:]
            boxes = _boxes(count, high, wide, (0.02, 1 / 3), (0.3, 3.3), generator)
            boxes[~happens(self.erase_prob)] = 0
            color = images.new_tensor(self.fill_color)[:, None, None] / 255
            images = torch.where(_inside(boxes.to(images.device), high, wide), color, images)
        return images

    def draw_crops(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw a crop (top, left, height, width) for each of some images of one size in pixels: (count, 4) integers."""
        return _boxes(count, height, width, self.crop_ratio_range, self.ratio, generator, whole=True)

    def _cropped(self, images: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
        """Crop and resize each image to ``img_size``, mirrored where that is drawn."""
        _, channels, height, width = images.shape
        top, left, box_height, box_width = boxes.double().unbind(1)
        theta = torch.zeros(len(images), 2, 3, dtype=torch.float64)  # from the output to the image, both in [-1, 1]
        theta[:, 0, 0] = box_width / width * torch.where(flipped, -1, 1)
        theta[:, 0, 2] = (2 * left + box_width) / width - 1
        theta[:, 1, 1] = box_height / height
        theta[:, 1, 2] = (2 * top + box_height) / height - 1
        grid = F.affine_grid(theta.to(images), [len(images), channels, *(self.img_size or ())], align_corners=False)
        return F.grid_sample(images, grid, mode='bilinear', padding_mode='border', align_corners=False)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f'img_size={self.img_size}, flip_prob={self.flip_prob}, num_views={self.num_views}'


def _across(chosen: Tensor, images: Tensor) -> Tensor:
    return chosen.to(images.device)[:, None, None, None]


def _boxes(
    count: int,
    height: int,
    width: int,
    areas: Sequence[float],
    ratios: Sequence[float],
    generator: torch.Generator,
    whole: bool = False,
) -> Tensor:
    """Draw rectangles by shares of the area and aspect ratio (width / height), the first of ten that fits.

    Where none does: with ``whole``, the largest part in the middle whose width / height is allowed, else nothing.
    """
    shape = (count, _ATTEMPTS)
    area = height * width * torch.empty(shape).uniform_(areas[0], areas[1], generator=generator)
    ratio = torch.empty(shape).uniform_(math.log(ratios[0]), math.log(ratios[1]), generator=generator).exp()
    heights, widths = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = fits.int().argmax(1, keepdim=True)
    high, wide = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    top = (torch.rand(count, generator=generator) * (height - high + 1)).long()
    left = (torch.rand(count, generator=generator) * (width - wide + 1)).long()
    boxes = torch.stack([top, left, high, wide], dim=1)
    fallback = torch.zeros(4, dtype=torch.long)
    if whole:
        rows, columns = min(height, round(width / ratios[0])), min(width, round(height * ratios[1]))
        fallback = torch.tensor([(height - rows) // 2, (width - columns) // 2, rows, columns])
    return torch.where(fits.any(1, keepdim=True), boxes, fallback)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return whether each pixel lies in the rectangle of its image: (B, 1, H, W)."""
    top, left, high, wide = (edge[:, None] for edge in boxes.unbind(1))
    rows, columns = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    in_rows, in_columns = (rows >= top) & (rows < top + high), (columns >= left) & (columns < left + wide)
    return (in_rows[:, :, None] & in_columns[:, None, :]).unsqueeze(1)
