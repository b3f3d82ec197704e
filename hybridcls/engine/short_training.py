"""Start a training, with what can only be known when its data are there: how many batches an epoch has."""

from typing import Any

from .dataloader_defaults import end_workers
from .hooks.batch_check_hook import check_batches
from .hooks.preemption_hook import PreemptionHook

__all__ = ['run_training']

_FEWEST_STEPS = 2  # of a schedule that is to change anything


def run_training(runner: Any) -> None:
    """Train with a Runner of :func:`~hybridcls.engine.training.build_runner`, however few images there are.

    ``runner.train()`` alone ends in an error of mmengine's schedulers where an epoch has no batch at all, or so few
    that the part of an epoch in which the learning rate warms up has none; with one, it stays at its smallest.

    Raises:
        ValueError: If an epoch has no batch; says how many images there are and which batch size works.
    """
    loader = runner.train_dataloader
    if hasattr(loader, '__len__'):
        check_batches(loader)
        schedulers = runner.param_schedulers
        if isinstance(schedulers, dict) and 'type' not in schedulers:  # of several optimizers
            runner.param_schedulers = {name: _fit(group, len(loader)) for name, group in schedulers.items()}
        elif schedulers is not None:
            runner.param_schedulers = _fit(schedulers, len(loader))
    try:
        runner.train()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, PreemptionHook):
                hook.release()
        end_workers(runner)


def _fit(schedulers: Any, batches: int) -> list:
    """Leave out what ends within the first two batches, and begin there what comes after it.

    A warm-up of mmengine reaches its end only by a second step: one of a single step would keep its small rate.
    """
    fitted = []
    for scheduler in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if not isinstance(scheduler, dict):
            fitted.append(scheduler)
            continue
        by_epoch = scheduler.get('by_epoch', True)
        if by_epoch and not scheduler.get('convert_to_iter_based'):
            fitted.append(scheduler)
            continue
        steps = batches if by_epoch else 1  # in one of the units that it counts
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if end is None or end * steps >= _FEWEST_STEPS:
            fitted.append({**scheduler, 'begin': 0} if 0 < begin * steps < _FEWEST_STEPS else scheduler)
    return fitted
