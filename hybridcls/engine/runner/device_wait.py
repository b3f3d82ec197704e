"""Wait for a GPU, whose work goes on after the calls that ask for it: for clocks."""

import torch

__all__ = ['wait_for_device']


def wait_for_device(device: torch.device) -> None:
    """Wait until a GPU (CUDA, MPS) has done what it was given; on a CPU all is done.

    Example:
        >>> wait_for_device(torch.device('cpu'))
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    elif device.type == 'mps':
        torch.mps.synchronize()
