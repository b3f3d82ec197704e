"""Measure the peak memory of a computation."""

import os
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ['peak_memory']


def peak_memory(function: Callable[[], Any], device: Optional[Union[str, torch.device]] = None) -> int:
    """Call ``function`` once, and return the peak of the bytes allocated during the call, relative to before.

    The return value of ``function``, and what it leaves allocated (gradients), count as well. On a CPU the profiler
    records every allocation and release of PyTorch's allocator: the number is exact and reproducible. Releasing memory
    that was allocated before the call lowers it.

    Args:
        function (Callable): The computation.
        device (str or torch.device, optional): Its device. Defaults to None, a GPU if this process has used one, else
            the CPU.

    Returns:
        int: Bytes.

    Example:
        >>> peak_memory(lambda: torch.zeros(1000) + torch.zeros(1000), 'cpu')
        12000
    """
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    device = torch.device('cuda' if in_use else 'cpu') if device is None else torch.device(device)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler writes lines to stderr otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        function()
    current = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == '[memory]':
            current += event.nbytes()
            most = max(most, current)
    return most
