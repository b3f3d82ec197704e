"""Float32 where half precision is too coarse for a loss: cosines, norms, sums over many classes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from hybridcls.compat.torch import WITHOUT_FLOAT64

__all__ = [
    'WITHOUT_FLOAT64', 'at_least_float32', 'outside_autocast', 'tf32_convolutions', 'tf32_products', 'to_float64',
]  # fmt: skip


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert a float16, bfloat16 or integer tensor to float32; float32 and float64 are unchanged.

    Example:
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
        >>> at_least_float32(torch.ones(2, dtype=torch.float64)).dtype
        torch.float64
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def to_float64(tensor: Tensor) -> Tensor:
    """Convert a tensor to float64, on its device, or on the CPU if the device has none (MPS). Gradients pass.

    Example:
        >>> to_float64(torch.ones(2)).dtype
        torch.float64
    """
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()


def outside_autocast(tensor: Tensor) -> AbstractContextManager:
    """Disable autocast and TF32 in the block for operations on the device of ``tensor``.

    Where neither is in force it does nothing at all, so that a traced or exported graph is free of it. What is compiled
    keeps TF32: a compiler cannot switch it in the middle.
    """
    device = tensor.device.type
    # (torch 2.6 cannot compile the question whether a device has autocast; those that are compiled for have it.)
    if torch.compiler.is_compiling():
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if not autocast and device != 'cuda':
        return nullcontext()
    blocks = ExitStack()
    if autocast:
        blocks.enter_context(torch.autocast(device, enabled=False))
    blocks.enter_context(tf32_products(False, device))
    return blocks


def tf32_products(enabled: bool, device: str) -> AbstractContextManager:
    """Enable or disable TF32 (10 bits of fraction, tensor cores) for CUDA's float32 matrix products in the block.

    Sums stay float32. Other devices have no TF32: nothing happens there.

    Args:
        enabled (bool): Whether to use TF32.
        device (str): The type of the device, ``'cuda'`` or another one.

    Example:
        >>> with tf32_products(True, 'cuda'):
        ...     torch.backends.cuda.matmul.allow_tf32
        True
    """
    return _tf32(enabled) if device == 'cuda' else nullcontext()


def tf32_convolutions(enabled: bool, device: str) -> AbstractContextManager:
    """Enable or disable TF32 for cuDNN's float32 convolutions in the block; see :func:`tf32_products`.

    Example:
        >>> with tf32_convolutions(False, 'cuda'):
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    return _cudnn_tf32(enabled) if device == 'cuda' else nullcontext()


@contextmanager
def _cudnn_tf32(enabled: bool) -> Iterator[None]:
    holder: Any = torch.backends.cudnn
    name, wanted = 'allow_tf32', cast(Any, enabled)
    try:
        before = holder.allow_tf32
    except RuntimeError:  # set by the keys of torch 2.9, as below
        holder, name, wanted = holder.conv, 'fp32_precision', 'tf32' if enabled else 'ieee'
        before = holder.fp32_precision
    setattr(holder, name, wanted)
    try:
        yield
    finally:
        setattr(holder, name, before)


@contextmanager
def _tf32(enabled: bool) -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    name: str = 'allow_tf32'
    choices: dict[bool, Any] = {True: True, False: False}
    try:
        before, whole = matmul.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # set by the keys of torch 2.9, which refuses to tell of one through the other
        name, choices = 'fp32_precision', {True: 'tf32', False: 'ieee'}
        before, whole = matmul.fp32_precision, None
    if before == choices[enabled]:
        yield
        return
    setattr(matmul, name, choices[enabled])
    try:
        yield
    finally:
        if whole is None:
            setattr(matmul, name, before)
        else:  # which tells 'high' from 'medium', where the flag does not
            torch.set_float32_matmul_precision(whole)
