"""Draw the crops of an image before decoding it, to decode it no larger than they need."""

import itertools
from typing import Any, NamedTuple, Optional

from .image_views import ImageViews
from .resizing import RandomCropToSize

__all__ = ['PLANNED_CROPS', 'CropBox', 'PlannedCrops', 'crops_after']

PLANNED_CROPS = 'planned_crops'  # the key of a sample
SCALES = (8, 4, 2)  # a JPEG is decoded at 1 / 8, 1 / 4 or 1 / 2 from the same coefficients


class CropBox(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def crops_after(pipeline: Any, loader: Any) -> list[RandomCropToSize]:
    """Return the crops that directly follow a loader, one per view; none if a transform needs the whole image.

    Args:
        pipeline (Compose): The transforms of a dataset.
        loader (LoadImage): One of its transforms.
    """
    steps = list(getattr(pipeline, 'transforms', ()))
    following = next((after for step, after in itertools.pairwise(steps) if step is loader), None)
    firsts = [following]
    if isinstance(following, ImageViews):
        firsts = [next(iter(view.transforms), None) for view in following.transforms]
    crops = [first for first in firsts if isinstance(first, RandomCropToSize)]
    return crops if len(crops) == len(firsts) else []


class PlannedCrops:
    """The crops of one image.

    Args:
        crops (list[RandomCropToSize]): What draws them, in order.

    Attributes:
        size (tuple[int, int], optional): (height, width) of the image that they are drawn for; None before.
        scale (int): The largest divisor of that size at which no crop is smaller than the output it is resized to.
    """

    def __init__(self, crops: list[RandomCropToSize]) -> None:
        self.crops = crops
        self.size: Optional[tuple[int, int]] = None
        self.scale = 1
        self._boxes: list[CropBox] = []

    def draw(self, height: int, width: int) -> None:
        """Draw the crops for an image of this size in pixels, unless they were already drawn for that size."""
        if self.size != (height, width):
            self.size = (height, width)
            self._boxes = [CropBox(*crop.draw(height, width)) for crop in self.crops]
            self.scale = next((scale for scale in SCALES if self._suffices(scale)), 1)

    def decoded_size(self, scale: int) -> tuple[int, int]:
        """Return (height, width) of the image decoded at 1 / scale, as libjpeg rounds it."""
        height, width = self.size or (0, 0)
        return -(-height // scale), -(-width // scale)

    def boxes(self, scale: int) -> list[CropBox]:
        """Return the crops in pixels of the image at 1 / scale, with each edge rounded to the nearest pixel."""
        height, width = self.decoded_size(scale)
        return [_scaled(box, scale, height, width) for box in self._boxes]

    def _suffices(self, scale: int) -> bool:
        return all(
            box.height >= crop.img_size[0] and box.width >= crop.img_size[1]
            for box, crop in zip(self.boxes(scale), self.crops, strict=True)
        )


def _scaled(box: CropBox, scale: int, height: int, width: int) -> CropBox:
    top, left = round(box.top / scale), round(box.left / scale)
    bottom = min(round((box.top + box.height) / scale), height)
    right = min(round((box.left + box.width) / scale), width)
    return CropBox(top, left, bottom - top, right - left)
