"""Measure the memory that activation checkpointing saves and the time it costs, on a training step."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Optional

import torch

from hybridcls.compat.mmengine import bare_model
from hybridcls.models.backbones import TimmStream

__all__ = ['CheckpointingCost', 'checkpointing_cost']


class CheckpointingCost(NamedTuple):
    """Memory and time of a step with activation checkpointing, relative to one without.

    Args:
        memory (float): Ratio of what a step allocates, weights and optimizer not among it.
        seconds (float): Ratio of its time.
        is_on (bool): Whether the training has it.
    """

    memory: float
    seconds: float
    is_on: bool

    def __str__(self) -> str:
        what = f'{self.memory:.2f} of the memory of a step and {self.seconds:.2f} of its time'
        return f'with_cp=True {"takes" if self.is_on else "would take"} {what}'


def checkpointing_cost(model: Any, step: Callable[[], Any], peak: Callable[[], int]) -> Optional[CheckpointingCost]:
    """Measure the cost of activation checkpointing and restore the model; None if no stream supports it.

    Args:
        model (nn.Module): Its streams are switched.
        step (Callable): A training step.
        peak (Callable): Makes one, and returns the bytes that it allocates.
    """
    streams = [one for one in bare_model(model).modules() if isinstance(one, TimmStream)]
    if not streams:
        return None
    before = [(stream.model, bool(getattr(stream.model, 'grad_checkpointing', False))) for stream in streams]
    found = {}
    try:
        for is_on in (True, False):
            for network, _ in before:
                network.set_grad_checkpointing(is_on)
            bytes_of_step = peak()
            began = time.perf_counter()
            step()
            found[is_on] = bytes_of_step, time.perf_counter() - began
    except (AssertionError, AttributeError, torch.cuda.OutOfMemoryError):  # timm has none for it; it fits with it only
        return None
    finally:
        for network, was_on in before:
            with suppress(AssertionError, AttributeError):
                network.set_grad_checkpointing(was_on)
    (memory, seconds), (plain_memory, plain_seconds) = found[True], found[False]
    if not plain_memory:
        return None
    return CheckpointingCost(memory / plain_memory, seconds / plain_seconds, all(was_on for _, was_on in before))
