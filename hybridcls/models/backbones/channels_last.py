"""Compute CNN streams in the memory format channels last (NHWC), where it is faster."""

from collections.abc import Iterable

import torch
from torch import nn

from hybridcls.compat.torch import AnyBatchNorm

from .hybrid_backbone import HybridBackbone
from .stream import Stream

__all__ = ['cnn_streams', 'gains_by_channels_last', 'set_channels_last']


def cnn_streams(model: nn.Module) -> dict[str, Stream]:
    """Return the CNN streams of a model, those under ``cnn``, by their names in it."""
    return {
        f'{name}.cnn'.removeprefix('.'): module.cnn
        for name, module in model.named_modules()
        if isinstance(module, HybridBackbone) and 'cnn' in module.stream_names
    }


def set_channels_last(model: nn.Module, names: Iterable[str]) -> None:
    """Set channels last for the CNN streams with these names, and for no others.

    Their images are laid out so, and convolutions keep the layout. Shapes, parameters, their gradients, the optimizer's
    state and checkpoints are untouched: fused optimizers are wrong on a CPU where these differ in layout. Results
    differ by rounding.
    """
    names = set(names)
    for name, stream in cnn_streams(model).items():
        stream.memory_format = torch.channels_last if name in names else None


def gains_by_channels_last(stream: Stream) -> bool:
    """Return whether a CNN is of a kind measured to be faster in channels last, in float32 on a CPU.

    That are those with BatchNorm most of whose convolutions are of one pixel or in groups (EfficientNet, MobileNet,
    RegNet, bottleneck ResNets): 0.6 to 0.8 of the time. A ConvNeXt is laid out so by itself; for 3 x 3 convolutions it
    makes no difference.
    """
    modules = list(stream.model.modules())
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    narrow = [conv for conv in convolutions if conv.groups > 1 or max(conv.kernel_size) == 1]
    return 2 * len(narrow) > len(convolutions) and any(isinstance(module, AnyBatchNorm) for module in modules)
