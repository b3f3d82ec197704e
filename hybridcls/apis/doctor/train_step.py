"""Training steps on a part of a batch, or on more than a batch."""

import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor

from hybridcls.engine.runner.device_wait import wait_for_device

__all__ = ['TrainStep', 'pick', 'size_of']


def size_of(data: dict) -> int:
    """Return the number of images of a batch."""
    return len(data['data_samples'] if 'data_samples' in data else next(iter(data.values())))


def pick(data: dict, numbers: Sequence[int]) -> dict:
    """Select images of a batch, in each view; in a batch of another format, the rows of all values.

    Example:
        >>> import torch
        >>> pick(dict(inputs=torch.arange(3)[:, None], data_samples=['a', 'b', 'c']), [2, 0, 2])['data_samples']
        ['c', 'a', 'c']
    """
    if 'data_samples' not in data:
        return {key: _rows(value, numbers) for key, value in data.items()}
    inputs = data['inputs']
    is_views = isinstance(inputs, (list, tuple)) and not (isinstance(inputs[0], Tensor) and inputs[0].dim() == 3)
    picked = [_rows(view, numbers) for view in inputs] if is_views else _rows(inputs, numbers)
    # Copies: a data preprocessor that mixes images writes soft labels into its samples.
    return {**data, 'inputs': picked, 'data_samples': [deepcopy(data['data_samples'][number]) for number in numbers]}


def _rows(images: Any, numbers: Sequence[int]) -> Any:
    return images[list(numbers)] if isinstance(images, Tensor) else [images[number] for number in numbers]


class TrainStep:
    """Train a step on a batch; ``seconds`` is the duration of the last step.

    Args:
        runner (Runner): Ready to train.
    """

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.seconds = 0.0

    def __call__(self, data: dict) -> float:
        """Return the loss."""
        model = self.runner.model
        model.train()
        began = time.perf_counter()
        losses = model.train_step(data, optim_wrapper=self.runner.optim_wrapper)
        loss = float(losses['loss'].detach()) if 'loss' in losses else float('nan')
        wait_for_device(next(model.parameters()).device)
        self.seconds = time.perf_counter() - began
        return loss
