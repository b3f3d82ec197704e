"""Determine whether a timm model is the CNN or the transformer stream, by its output."""

from typing import Any

import timm
import torch

from ..building.shape_probe import probe_output
from .timm_model import check_model_name

__all__ = ['stream_kind']


def stream_kind(model_name: str) -> str:
    """Return ``'cnn'`` for a timm model whose last feature is a map ``(B, C, h, w)``, else ``'vit'``.

    So CBAM finds its map and TokenLearner its tokens. CoAtNet and MaxViT, whose attention works on maps, are
    ``'cnn'``; MLP-Mixer and Swin, with tokens and channels-last maps, ``'vit'``. The model is built on the meta device,
    without weights.

    Args:
        model_name (str): As :class:`~hybridcls.models.backbones.TimmStream` takes it.

    Raises:
        ValueError: If timm has no such model; names near ones.

    Example:
        >>> stream_kind('resnet18'), stream_kind('vit_tiny_patch16_224'), stream_kind('swinv2_tiny_window8_256')
        ('cnn', 'vit', 'vit')
    """
    check_model_name('model_name', model_name)
    with torch.device('meta'):
        model: Any = timm.create_model(model_name, num_classes=0)
    if getattr(model, 'output_fmt', 'NCHW') != 'NCHW':
        return 'vit'
    channels, height, width = model.pretrained_cfg['input_size']
    model.forward = model.forward_features
    feature = probe_output(model, height, width, channels)
    # Some give their stages' maps, the last of which counts.
    return 'cnn' if (feature[-1] if isinstance(feature, (list, tuple)) else feature).dim() == 4 else 'vit'
