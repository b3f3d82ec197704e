"""Findings about the machine: versions, GPU, processors, shared memory and disk."""

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import torch

from .finding import NOTE, PROBLEM, WARNING, Finding

__all__ = ['available_memory', 'check_environment', 'cpu_count']

_GIB = 2**30
_LITTLE = 1.0  # GiB of a temporary folder
_TWINS = (('mmengine', 'onedl-mmengine'), ('mmcv', 'onedl-mmcv'), ('mmpretrain', 'onedl-mmpretrain'))


def check_environment() -> Iterator[Finding]:
    """Compare the installed versions with the supported ones, and check the machine."""
    yield from _versions()
    yield from _gpu()
    yield from _threads()
    for folder in dict.fromkeys((tempfile.gettempdir(), os.getcwd())):
        free = shutil.disk_usage(folder).free / _GIB
        if free < _LITTLE:
            change = 'TMPDIR=FOLDER' if folder == tempfile.gettempdir() else '--work-dir on another disk'
            yield Finding(WARNING, 'environment', f'{folder} has {free:.2f} GiB left.', change)


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def available_memory() -> int:
    """Return the available bytes of main memory, limits of a container included; 0 if unknown."""
    found = []
    meminfo = Path('/proc/meminfo')
    if meminfo.is_file():
        match = re.search(r'MemAvailable:\s+(\d+) kB', meminfo.read_text())
        found += [int(match[1]) * 1024] if match else []
    group = Path('/sys/fs/cgroup')
    for most, used in (
        ('memory.max', 'memory.current'),
        ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'),
    ):
        try:
            limit = int((group / most).read_text())
            found.append(limit - int((group / used).read_text()))
        except (OSError, ValueError):
            continue
    return max(0, min(found, default=0))


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    told = [f'Python {sys.version.split()[0]}']
    for line in _requirements():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({'extra': ''}):
            continue
        version = _installed(requirement.name)
        told += [f'{requirement.name} {version}'] if version and len(told) < 8 else []
        if version is None:
            yield Finding(PROBLEM, 'environment', f'{requirement.name} is not installed.', f"pip install '{line}'")
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Finding(
                WARNING, 'environment', f'{requirement.name} {version} is outside the tested versions, '
                f'{requirement.specifier}.', f"pip install '{line}'",
            )  # fmt: skip
    for original, maintained in _TWINS:
        if _installed(original) and _installed(maintained):
            yield Finding(
                PROBLEM, 'environment', f'{original} and {maintained} are both installed, in one folder.',
                f'pip uninstall -y {original} {maintained} && pip install {maintained}',
            )  # fmt: skip
    yield Finding(NOTE, 'environment', f'{", ".join(told)}.')


def _requirements() -> list[str]:
    """Return the requirement lines of the runtime, from the installed package or from the clone."""
    file = Path(__file__).resolve().parents[3] / 'requirements' / 'runtime.txt'
    if file.is_file():
        return [line for line in map(str.strip, file.read_text().splitlines()) if line and not line.startswith('#')]
    try:
        return importlib.metadata.requires('hybridcls') or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _installed(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> Iterator[Finding]:
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(number)
            name, arch = torch.cuda.get_device_name(number), f'sm_{major}{minor}'
            free, total = torch.cuda.mem_get_info(number)
            built = torch.cuda.get_arch_list()
            if built and arch not in built and not any(one.startswith(f'sm_{major}') for one in built):
                yield Finding(
                    PROBLEM, 'environment', f'torch {torch.__version__} is not built for {name} ({arch}), but for '
                    f'{", ".join(built)}.', 'pip install a torch built for this GPU',
                )  # fmt: skip
            if free < 0.5 * total:
                yield Finding(
                    WARNING, 'environment', f'cuda:{number} has {free / _GIB:.1f} of {total / _GIB:.1f} GiB left: '
                    'another process uses it.', '--device cuda:N of a free GPU, or end that process',
                )  # fmt: skip
            yield Finding(
                NOTE, 'environment', f'cuda:{number}: {name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free.'
            )
        return
    has_card = os.path.exists('/dev/nvidia0') or os.path.exists('/dev/nvidiactl')
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES') == '-1'
    if has_card and not hidden:
        why = 'is built without CUDA' if torch.version.cuda is None else f'(CUDA {torch.version.cuda}) does not see it'
        yield Finding(
            WARNING, 'environment', f'there is an NVIDIA GPU, but torch {torch.__version__} {why}.',
            'pip install a torch with CUDA that the driver supports (nvidia-smi shows it)',
        )  # fmt: skip
    memory = available_memory()
    free_memory = f', {memory / _GIB:.1f} GiB of memory free' if memory else ''
    used = 'the GPU of the Mac (MPS)' if torch.backends.mps.is_available() else 'no GPU is used'
    yield Finding(NOTE, 'environment', f'{used}; {cpu_count()} processors{free_memory}.')


def _threads() -> Iterator[Finding]:
    threads, cpus = torch.get_num_threads(), cpu_count()
    if threads > cpus:
        yield Finding(
            WARNING,
            'environment',
            f'torch computes in {threads} threads on {cpus} processors.',
            f'OMP_NUM_THREADS={cpus}',
        )
