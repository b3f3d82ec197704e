"""The range of image values that a data preprocessor returns and a model expects."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmengine.model import ImgDataPreprocessor
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor, nn

__all__ = [
    'IMAGENET_MEAN', 'IMAGENET_STD', 'input_channels', 'check_unit_range', 'for_channels', 'is_for_unit_range',
    'normalization_of', 'range_after', 'range_of',
]  # fmt: skip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_ONE_OF_TWO = (
    "Keep one normalization, that of the streams: data_preprocessor=dict(type='HybridDataPreprocessor') without mean "
    'and std, and no Normalize in the pipelines. To keep yours, switch that of each stream off: mean=(0., 0., 0.), '
    'std=(1., 1., 1.) in cnn and vit.'
)


def is_for_unit_range(mean: Sequence[float]) -> bool:
    """Return whether this is a mean of values in [0, 1], not 0 (no normalization) nor one of other units."""
    return any(mean) and max(mean) <= 1


def range_after(preprocessor: nn.Module) -> Optional[tuple[float, float]]:
    """Return the range (lowest, highest) to which a data preprocessor maps [0, 255]; None if unknown."""
    divides: Optional[bool] = getattr(preprocessor, 'gives_unit_range', None)
    known = divides is not None or type(preprocessor).forward in (
        ClsDataPreprocessor.forward,
        ImgDataPreprocessor.forward,
    )
    if not known:
        return None
    if divides:
        return 0.0, 1.0
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return 0.0, 255.0
    if mean.is_meta:  # a model that is built for its shapes alone
        return None
    if divides is False and bool((mean == 0).all() and (std == 1).all()):
        return None  # "leave my values alone": only the dataset knows them
    return float((-mean / std).min()), float(((255.0 - mean) / std).max())


def check_unit_range(caller: str, low: float, high: float) -> None:
    """Raise a ValueError if images for a model that normalizes [0, 1] by itself are certainly in another range.

    Sure is what lies far outside, below -0.5 or above 1.5 (NaN is no image, and for others to find).
    """
    if not (low < -0.5 or high > 1.5):
        return
    what = 'in [0, 255]' if low >= 0 and high > 20 else 'that are normalized already'
    raise ValueError(
        f'{caller}: expected RGB images in [0, 1], which its streams normalize, got values from {low:.3g} to '
        f"{high:.3g}, {what}. {_ONE_OF_TWO} (mmpretrain's ImageClassifier takes a HybridDataPreprocessor, too.)"
    )


def range_of(images: Tensor) -> tuple[float, float]:
    """Return the lowest and the highest value; synchronizes with the device."""
    low, high = torch.stack(images.detach().aminmax()).tolist()
    return low, high


def input_channels(model: Any) -> int:
    """Return the number of image channels that a model takes: those of its first convolution."""
    return getattr(model, 'in_chans', None) or next(
        (module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3
    )


def for_channels(values: Sequence[float], channels: int) -> list[float]:
    """Convert numbers for R, G, B to grey or many-band images: the mean of the three for each channel."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def normalization_of(backbone: nn.Module) -> Optional[tuple[list[float], list[float]]]:
    """Return the mean and standard deviation, for [0, 1], that a bare backbone of mmpretrain expects.

    They are those of the timm model in a ``TIMMBackbone``, and ImageNet's otherwise. None for backbones that are not
    mmpretrain's (they get RGB in [0, 1]), or that normalize by themselves (they say ``takes_unit_range = True``).
    """
    if not isinstance(backbone, BaseBackbone) or getattr(backbone, 'takes_unit_range', False):
        return None
    config = getattr(getattr(backbone, 'timm_model', None), 'pretrained_cfg', {})
    values = (config.get('mean', IMAGENET_MEAN), config.get('std', IMAGENET_STD))
    mean, std = (for_channels(value, input_channels(backbone)) for value in values)
    return mean, std
