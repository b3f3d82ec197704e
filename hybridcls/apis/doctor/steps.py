"""Steps of a training with a part of a batch, or with more than a batch."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ['TrainStep', 'pick', 'size_of']


def size_of(data: dict) -> int:
    """Return the number of images of a batch."""
    return len(data['data_samples'])


def pick(data: dict, numbers: Sequence[int]) -> dict:
    """Return the images of these numbers of a batch, of each view.

    Example:
        >>> pick(dict(inputs=torch.arange(3)[:, None], data_samples=['a', 'b', 'c']), [2, 0, 2])['data_samples']
        ['c', 'a', 'c']
    """

    def copy(sample: Any) -> Any:
        return sample.clone() if hasattr(sample, 'clone') else sample

    def rows(images: Any) -> Any:
        return images[list(numbers)] if isinstance(images, Tensor) else [images[number] for number in numbers]

    inputs = data['inputs']
    is_views = isinstance(inputs, (list, tuple)) and not (isinstance(inputs[0], Tensor) and inputs[0].dim() == 3)
    picked = [rows(view) for view in inputs] if is_views else rows(inputs)
    # Copies: a data preprocessor that mixes images writes soft labels into its samples.
    samples = [copy(data['data_samples'][number]) for number in numbers]
    return {**data, 'inputs': picked, 'data_samples': samples}


class TrainStep:
    """Train with a batch; ``seconds`` is how long the last step took.

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
        loss = float(losses['loss']) if 'loss' in losses else float('nan')
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - began
        return loss
