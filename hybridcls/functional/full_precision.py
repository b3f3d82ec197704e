"""Float32 where half precision would lose what a loss needs: cosines, norms, sums over many classes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ['at_least_float32', 'outside_autocast']


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a float16, bfloat16 or integer tensor as float32; float32 and float64 pass as they are.

    Example:
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
        >>> at_least_float32(torch.ones(2, dtype=torch.float64)).dtype
        torch.float64
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def outside_autocast(tensor: Tensor) -> AbstractContextManager:
    """A block in which autocast does not touch operations on the device of ``tensor``.

    Outside of autocast it does nothing at all, so that a traced or exported graph is free of it.
    """
    device = tensor.device.type
    # (torch 2.6 cannot compile the question whether a device has autocast; those that are compiled for have it.)
    available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)
    if not available or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
