"""``--device``: choose the device of the process that trains, tests or predicts."""

import os
import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import Optional

__all__ = ['add_device_option', 'hide_gpus', 'use_device', 'visible_gpu']


def add_device_option(parser: ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        '--device',
        type=_device,
        default='auto',
        metavar='auto|cpu|cuda:N|mps',
        help='device that computes; default: auto, a GPU if there is one, else the CPU',
    )


def _device(text: str) -> str:
    if not re.fullmatch(r'auto|cpu|mps|cuda(:\d+)?', text):
        raise ArgumentTypeError(f'expected auto, cpu, cuda, cuda:N or mps, got {text!r}')
    return text


def hide_gpus(device: str) -> None:
    """Hide CUDA's GPUs from this process and its workers for ``cpu``; to be called before torch looks for them."""
    if device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = '-1'


def visible_gpu(number: int) -> str:
    """Return what ``CUDA_VISIBLE_DEVICES`` names the GPU that this process knows as ``cuda:number``."""
    names = os.environ.get('CUDA_VISIBLE_DEVICES')
    return names.split(',')[number].strip() if names else str(number)


def use_device(device: str, launcher: Optional[str] = None) -> None:
    """Let models go to a device, from now on in this process.

    Args:
        device (str): ``'auto'``, ``'cpu'``, ``'cuda'``, ``'cuda:N'`` or ``'mps'``.
        launcher (str, optional): What started the processes; each takes the GPU of its rank then.

    Raises:
        ValueError: If there is no such device, or a launcher chooses it.
    """
    if device == 'auto':
        return
    import torch
    from mmengine.device import is_mps_available

    from hybridcls.compat.mmengine.default_device import set_device

    kind, _, number = device.partition(':')
    if kind == 'cuda':
        count = torch.cuda.device_count()
        if int(number or 0) >= count:
            there = ', '.join(['cpu', *(f'cuda:{one}' for one in range(count)), *['mps'] * is_mps_available()])
            built = '' if torch.version.cuda else f' (torch {torch.__version__} is built without CUDA)'
            raise ValueError(f'--device: expected a device of this machine, got {device}{built}. There are: {there}.')
        if launcher not in (None, 'none') and number:
            raise ValueError(f'--device: expected cuda under --launcher {launcher}, which gives each process its GPU, '
                             f'got {device}.')  # fmt: skip
        if number:
            torch.cuda.set_device(int(number))
    elif kind == 'mps' and not is_mps_available():
        raise ValueError('--device: expected a device of this machine, got mps, which only Macs have. Leave it out.')
    set_device(kind)
