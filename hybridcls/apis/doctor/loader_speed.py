"""Find whether data loading or the model is the bottleneck: images a second of each, measured separately."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from .environment import cpu_count
from .finding import NOTE, WARNING, Finding
from .subject import Subject
from .train_step import size_of

__all__ = ['check_speed', 'endless']

_SECONDS, _MOST_BATCHES = 2.0, 50


def endless(loader: Any) -> Iterator[dict]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def check_speed(subject: Subject, loader: Any) -> Iterator[Finding]:
    """Time the data loader, and compare it with the timed steps of the model.

    Args:
        subject (Subject): Its facts have ``step_seconds_an_image``, and get ``speed``.
        loader (DataLoader): Of the training.
    """
    batches = endless(loader)
    next(batches)  # starts the workers
    began, images, number = time.perf_counter(), 0, 0
    while number < _MOST_BATCHES and time.perf_counter() - began < _SECONDS:
        images += size_of(next(batches))
        number += 1
    loads = images / (time.perf_counter() - began)
    each = subject.facts.get('step_seconds_an_image')
    if not each:
        return
    trains, workers = 1 / each, getattr(loader, 'num_workers', 0)
    limit = 'loader' if loads < trains else 'model'
    subject.facts['speed'] = dict(loader=round(loads, 1), model=round(trains, 1), workers=workers, limit=limit)
    text = (
        f'the loader delivers {loads:.0f} images/s ({workers} worker{"s" * (workers != 1)}), the model trains on '
        f'{trains:.0f}: the {limit} is the bottleneck.'
    )
    if limit == 'model':
        yield Finding(NOTE, 'train_dataloader', text)
        return
    more = min(8, cpu_count())
    change = f'train_dataloader.num_workers={more}' if workers < more else "train_dataloader.dataset.cache='uint8'"
    level = WARNING if torch.cuda.is_available() and loads < 0.8 * trains else NOTE  # a GPU waits
    yield Finding(level, 'train_dataloader.num_workers', text, change)
