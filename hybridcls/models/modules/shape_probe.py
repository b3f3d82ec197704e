"""What a module gives for an image of some size, without computing it."""

from typing import Any

import torch
from torch import nn


def probe_output(module: nn.Module, height: int, width: int, channels: int = 3) -> Any:
    """Return the output of a module in eval mode for one image, as tensors that have shapes but no values.

    Everything runs on the meta device: no arithmetic, no memory, no running statistics moved, no random numbers drawn.

    Args:
        module (nn.Module): Takes ``(1, channels, height, width)``.
        height (int), width (int), channels (int): Of the image.

    Returns:
        What the module returns, its tensors on the meta device.

    Raises:
        NotImplementedError: If an operation of the module has no meta form.
        Exception: Whatever the module raises for such an image.

    Example:
        >>> probe_output(nn.Conv2d(3, 8, 2, stride=2), 32, 16).shape
        torch.Size([1, 8, 16, 8])
    """
    state = {name: value.to('meta') for name, value in [*module.named_parameters(), *module.named_buffers()]}
    modes = {name: part.training for name, part in module.named_modules()}
    module.eval()
    try:
        image = torch.empty(1, channels, height, width, device='meta')
        with torch.no_grad():
            return torch.func.functional_call(module, state, image)
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]


def channels_of(feature: torch.Tensor) -> int:
    """Return C of a ``(B, C, H, W)`` map, ``(B, N, C)`` tokens or ``(B, C)`` vectors."""
    return int(feature.shape[-1] if feature.dim() == 3 else feature.shape[1])
