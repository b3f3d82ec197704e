"""Fill defaults of dataloaders that fit the machine."""

import os
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from hybridcls.checks import check_number

from .change import Change
from .layers import ConfigError
from .tree import ABSENT, dataloaders_in, dotted

__all__ = ['check_dataloaders', 'dataloaders', 'limit_dataloaders']


def dataloaders(cfg: Config) -> Iterator[Change]:
    """Fill the defaults of every dataloader, and remove arguments that torch rejects.

    ``pin_memory`` is on only with CUDA (elsewhere torch warns and does nothing), ``persistent_workers`` only with
    workers, batches are stacked by ``default_collate``. Training workers are seeded by
    :func:`~hybridcls.engine.hooks.random_state_hook.seed_worker`: mmengine's own function gives each worker the same
    seed in each epoch, so that workers which are started again would draw the same random crops. Without workers torch
    refuses ``persistent_workers`` and ``prefetch_factor``; beside a ``batch_sampler``, which decides about incomplete
    batches itself, ``drop_last`` and ``shuffle``.
    """
    import torch

    for path, loader in dataloaders_in(cfg):
        workers = loader.get('num_workers', 0)
        if workers is None:
            workers = _workers_here()
            yield Change((*path, 'num_workers'), None, workers, 'CPUs of this machine', told=False)
        has_workers = isinstance(workers, int) and workers > 0
        defaults: dict[str, Any] = dict(
            pin_memory=torch.cuda.is_available(),
            persistent_workers=has_workers,
            collate_fn=dict(type='default_collate'),
        )
        if path == ('train_dataloader',):
            defaults['worker_init_fn'] = dict(type='hybridcls.seed_worker')
        for key, value in defaults.items():
            if loader.get(key) is None:
                yield Change((*path, key), loader.get(key, ABSENT), value, 'default of dataloaders', told=False)
        refused = []
        if not has_workers:
            if loader.get('persistent_workers'):
                yield Change(
                    (*path, 'persistent_workers'), True, False, 'there are no workers (num_workers=0)', 'torch'
                )
            refused.append(('prefetch_factor', 'there are no workers (num_workers=0)'))
        if loader.get('batch_sampler') is not None:
            refused += [(key, 'torch does not accept it with a batch_sampler') for key in ('drop_last', 'shuffle')]
        for key, why in refused:
            if loader.get(key):
                yield Change((*path, key), loader[key], ABSENT, why, 'torch')


def _workers_here() -> int:
    """Return the number of workers per process: with a GPU up to 8 by the CPUs, without one few beside the training."""
    import torch

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    cpus //= int(os.environ.get('LOCAL_WORLD_SIZE') or 1)
    return min(8, cpus) if torch.cuda.is_available() else min(4, cpus // 2)


def limit_dataloaders(cfg: Config, pin_memory: bool, persistent_workers: bool) -> Iterator[Change]:
    """Apply ``--no-pin-memory`` and ``--no-persistent-workers``."""
    for path, loader in dataloaders_in(cfg):
        for key, allowed in (('pin_memory', pin_memory), ('persistent_workers', persistent_workers)):
            if not allowed and loader.get(key):
                option = f'--no-{key.replace("_", "-")}'
                yield Change((*path, key), loader[key], False, option, option)


def check_dataloaders(cfg: Config) -> None:
    """Raise unless every dataloader is one dict with a valid batch size and known functions.

    Raises:
        ConfigError: If it is a list, a function has no ``type``, or only a scope in front of it would find it.
        TypeError, ValueError: If its batch size is no positive integer, or its number of workers a negative one.
        UnknownNameError: If no registry knows a function.
    """
    from mmengine.registry import FUNCTIONS as MMENGINES

    from hybridcls.registry import FUNCTIONS

    for kind in ('train', 'val', 'test'):
        loader = cfg.get(f'{kind}_dataloader')
        if loader is not None and not isinstance(loader, dict):
            raise ConfigError(
                f'{kind}_dataloader: expected a dict, got a {type(loader).__name__}. Put several datasets into one: '
                "dataset=dict(type='ConcatDataset', datasets=[...])."
            )
    for path, loader in dataloaders_in(cfg):
        name = dotted(path)
        if loader.get('batch_size') is not None:
            check_number(name, 'batch_size', loader['batch_size'], 1, integer=True)
        if loader.get('num_workers') is not None:
            check_number(name, 'num_workers', loader['num_workers'], 0, integer=True)
        for key in ('collate_fn', 'worker_init_fn'):
            function = loader.get(key)
            if not isinstance(function, dict):
                continue
            if 'type' not in function:
                raise ConfigError(f"{name}.{key} = {dict(function)} has no 'type', so there is no function to call.")
            function_name = function['type']
            if isinstance(function_name, str) and MMENGINES.get(function_name) is None:
                FUNCTIONS.get(function_name)  # says what is near, if there is none
                raise ConfigError(
                    f'{name}.{key}.type={function_name!r} is a function of hybridcls, and mmengine finds functions of '
                    f"other packages only with their scope. Write 'hybridcls.{function_name}'."
                )
