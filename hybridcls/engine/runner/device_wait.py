"""Wait for a GPU before reading the clock, since its work is asynchronous."""

import torch

__all__ = ['wait_for_device']


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU (CUDA, MPS) has finished all work given to it; a CPU always has.

    Example:
        >>> wait_for_device(torch.device('cpu'))
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    elif device.type == 'mps':
        torch.mps.synchronize()
