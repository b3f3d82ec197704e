"""Find the shape of a module's output for an image size, without computing it."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ['channels_of', 'probe_shapes', 'probe_output']


def probe_shapes(module: nn.Module, *inputs: Any) -> Any:
    """Return the output of a module in eval mode for inputs of some shapes, as tensors with shapes but no values.

    Everything runs on the meta device: no arithmetic, no memory, no running statistics moved, no random numbers drawn.
    Only if an operation of the module has no meta form, zeros are computed with.

    Args:
        module (nn.Module): What is called.
        *inputs (Tensor | Sequence[Tensor]): Its arguments; of their tensors only shapes and types count.

    Raises:
        Exception: Whatever the module raises for such inputs.

    Example:
        >>> probe_shapes(nn.Conv2d(3, 8, 2, stride=2), torch.empty(1, 3, 32, 16, device='meta')).shape
        torch.Size([1, 8, 16, 8])
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    modes = {name: part.training for name, part in module.named_modules()}
    module.eval()
    try:
        with torch.no_grad():
            try:
                state = {name: value.to('meta') for name, value in tensors}
                return torch.func.functional_call(module, state, _on('meta', inputs))
            except NotImplementedError:
                return module(*_on(tensors[0][1].device if tensors else 'cpu', inputs))
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]


def probe_output(module: nn.Module, height: int, width: int, channels: int = 3) -> Any:
    """Run :func:`probe_shapes` for one image, ``(1, channels, height, width)``."""
    return probe_shapes(module, torch.empty(1, channels, height, width, device='meta'))


def channels_of(feature: Tensor) -> int:
    """Return C of a ``(B, C, H, W)`` map, ``(B, N, C)`` tokens or ``(B, C)`` vectors."""
    return int(feature.shape[-1] if feature.dim() == 3 else feature.shape[1])


def _on(device: Any, inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return torch.zeros_like(inputs, device=device)
    return type(inputs)(_on(device, entry) for entry in inputs)
