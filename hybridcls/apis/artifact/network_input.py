"""Find the size, channels and colour order of the network's input by running its pipeline on sample images."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..trained_model import TrainedModel

__all__ = ['NetworkInput', 'read_network_input']

_SHAPES = ((61, 83), (200, 90))  # (h, w) of images that are shown: a small wide one, a large high one


class NetworkInput(NamedTuple):
    """Size, channels and colour order of the images that a pipeline returns.

    Args:
        height (int): Of the network's images.
        width (int): The same.
        channels (int): 3; or 1, of grey images.
        is_bgr (bool): Whether their colours come as B, G, R.
    """

    height: int
    width: int
    channels: int
    is_bgr: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (h, w, C)."""
        return self.height, self.width, self.channels

    def preprocessed(self, model: Any, images: Tensor) -> Tensor:
        """Apply the data preprocessor to RGB images ``(N, h, w, C)`` uint8, which gives the model's input."""
        inputs = images.permute(0, 3, 1, 2)
        return model.data_preprocessor(dict(inputs=inputs.flip(1) if self.is_bgr else inputs), False)['inputs']

    def packed(self, images: np.ndarray) -> list[Tensor]:
        """Convert RGB images ``(N, h, w, C)`` to the layout of the pipeline: ``(C, h, w)`` each."""
        inputs = torch.from_numpy(images[..., ::-1].copy() if self.is_bgr else images)
        return list(inputs.permute(0, 3, 1, 2).contiguous())

    def unpacked(self, images: Iterable[Tensor]) -> np.ndarray:
        """Convert images in the layout of the pipeline to RGB ``(N, h, w, C)`` uint8."""
        batch = torch.stack(list(images)).permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(batch[..., ::-1] if self.is_bgr else batch)


def read_network_input(trained: TrainedModel) -> NetworkInput:
    """Run the test pipeline on sample images, and read size, channels and colour order from the results.

    Raises:
        ValueError: If it gives what a graph cannot begin with: several views of an image, images of several sizes, or
            values that are no 8-bit colours.
    """
    seen = []
    for height, width in _SHAPES:
        packed = trained.pipeline(dict(img=Image.new('RGB', (width, height), 'red')))['inputs']
        if not isinstance(packed, Tensor) or packed.dim() != 3:
            raise ValueError(
                'export: the test pipeline gives several views of an image, and an exported model takes one. Leave '
                'MultiView or TestTimeAug out of test_dataloader.dataset.pipeline: --config FILE names another config.'
            )
        if packed.dtype != torch.uint8:
            raise ValueError(
                f'export: expected a test pipeline that gives uint8 images, got {packed.dtype}. Leave Normalize '
                'to data_preprocessor=dict(mean=[...], std=[...]): --config FILE names another config.'
            )
        seen.append(packed)
    sizes = {tuple(packed.shape[1:]) for packed in seen}
    if len(sizes) > 1:
        raise ValueError(
            f'export: expected a test pipeline that makes all images one size, got {sorted(sizes)} of two images. End '
            'it with CenterCropToSize or ResizeToSize: --config FILE names another config.'
        )
    channels, height, width = seen[0].shape
    if channels not in (1, 3):
        raise ValueError(f'export: expected a test pipeline that gives images of 1 or 3 channels, got {channels}.')
    is_bgr = channels == 3 and bool(seen[0][2].float().mean() > seen[0][0].float().mean())
    return NetworkInput(height, width, channels, is_bgr)
