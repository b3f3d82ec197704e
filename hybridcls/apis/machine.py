"""Describe the machine on which something is measured."""

import os
import platform
from typing import Any

import torch

from hybridcls.compat.torch_compiler import missing_for_inductor
from hybridcls.processor import cpu_flags, cpu_name

__all__ = ['busy_processors', 'machine']

_TOLD_FLAGS = ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_bf16', 'amx_int8')


def busy_processors() -> float:
    """Return the load average of the last minute: processes running or waiting for a CPU; 0 if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def machine(device: torch.device) -> dict[str, Any]:
    """Return the properties of the machine: CPU, flags, threads, GPU, versions, and what is missing to compile."""
    flags = cpu_flags()
    gpu = {} if device.type != 'cuda' else dict(gpu=torch.cuda.get_device_name(device))
    return dict(
        cpu=cpu_name(), cores=os.cpu_count(),
        threads=torch.get_num_threads(), flags=[flag for flag in _TOLD_FLAGS if flag in flags], **gpu,
        device=device.type, torch=torch.__version__, system=platform.system(),
        missing_to_compile=missing_for_inductor(device.type),
    )  # fmt: skip
