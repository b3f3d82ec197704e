"""Measure time and memory of training steps."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.registry import HOOKS

from ..checkpoints.files import atomic_write
from ..runner.device_wait import wait_for_device

__all__ = ['COST_FILE', 'StepCostHook']

COST_FILE = 'step_cost.json'
_RSS_UNIT = 1 if sys.platform == 'darwin' else 1024  # bytes


@HOOKS.register_module()
class StepCostHook(Hook):
    """Write time and memory of the training steps to ``step_cost.json`` in the work dir.

    ``seconds``: the median over the steps, of the processor's time (all threads) or, on a GPU, of the time until it
    is done; the first step, which allocates, is left out where there are others. ``steps``: how many were measured;
    after a resume those since then. ``memory``: MiB that the process, or the GPU of CUDA, held at most beyond what it
    held before the first step.

    A GPU is waited for after each step, which costs a little itself: compare trainings that all have this hook.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._began = 0.0
        self._memory_before = 0.0

    def before_train(self, runner: Runner) -> None:
        """Note the memory before the first step."""
        self._device = next(runner.model.parameters()).device
        if self._device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        self._memory_before = self._memory()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start the clock."""
        self._began = self._clock()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop the clock."""
        self._seconds.append(self._clock() - self._began)

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        seconds = sorted(self._seconds[1:] or self._seconds)
        if seconds and runner.rank == 0:
            cost = dict(
                seconds=seconds[len(seconds) // 2],
                steps=len(self._seconds),
                memory=max(0.0, self._memory() - self._memory_before),
                clock='processor' if self._device.type == 'cpu' else 'GPU',
            )
            atomic_write(json.dumps(cost).encode(), Path(runner.work_dir) / COST_FILE)

    def _clock(self) -> float:
        if self._device.type == 'cpu':
            return time.process_time()
        wait_for_device(self._device)
        return time.perf_counter()

    def _memory(self) -> float:
        if self._device.type == 'cuda':
            return torch.cuda.max_memory_allocated() / 2**20
        import resource  # Windows has none, and trains without this hook

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 2**20
