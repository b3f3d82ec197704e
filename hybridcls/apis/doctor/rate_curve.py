"""Findings about the learning rate over a whole training: the schedulers are stepped without a model."""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

import torch
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from hybridcls.engine.config.schedules import scheduler_groups
from hybridcls.engine.config.tree import Path, class_of, dotted

from .finding import PROBLEM, WARNING, Finding
from .subject import Subject

__all__ = ['check_curve', 'iterations_of_epoch', 'rates_of']

_MOST_STEPS = 100_000  # of schedulers, which take some microseconds each
_OVER = 1.5  # times the rate that is written
_DEAD, _DEAD_SHARE = 1e-4, 0.3  # of the highest rate; of the training


def check_curve(subject: Subject, largest: float) -> Iterator[Finding]:
    """Look where the schedules lead the rate: above the written one, never up to it, or to nothing before the end.

    Args:
        subject (Subject): With its data.
        largest (float): The highest rate that the optimizer mostly bears.
    """
    rate = subject.get('optim_wrapper.optimizer.lr')
    groups = list(scheduler_groups(subject.get('param_scheduler')))
    if not isinstance(rate, (int, float)) or rate <= 0 or len(groups) != 1 or not groups[0]:
        return
    rates = rates_of(subject, groups[0], rate)
    if not rates:
        return
    # Which one it is: that without which the rate would stay.
    path = groups[0][-1][0]
    highest = max(rates)
    kinds = ', '.join(str(one.get('type')) for _, one in groups[0])
    if highest > _OVER * rate:
        raising = [own for own in groups[0] if max(rates_of(subject, [own], rate), default=0) > _OVER * rate]
        where = dotted(raising[0][0] if raising else path)
        level = PROBLEM if highest > 5 * largest else WARNING
        name = str((raising or groups[0])[0][1].get('type'))
        yield Finding(
            level, where, f'{name} raises the rate from the written lr={rate:.3g} to {highest:.3g}.',
            f'{where}: its eta_max, gamma or factor; or lr={highest:.3g}, if that is meant',
        )  # fmt: skip
    elif highest < rate / 2:
        yield Finding(
            PROBLEM, dotted(groups[0][0][0]), f'the rate never comes to the written lr={rate:.3g}, but at most to '
            f'{highest:.3g} ({kinds}).',
            f'{dotted(groups[0][0][0])}: convert_to_iter_based=True, another end, or its factor',
        )  # fmt: skip
    low = [one < _DEAD * highest for one in rates]
    trailing = next((number for number, one in enumerate(reversed(low)) if not one), len(low))
    if trailing > _DEAD_SHARE * len(rates):
        share = trailing / len(rates)
        yield Finding(
            WARNING, dotted(path), f'in the last {share:.0%} of the training the rate is below a ten-thousandth of its '
            f'highest ({kinds}): nothing is learned any more.',
            f'{dotted(path)}: a gamma nearer to 1, a longer step_size, or max_epochs={_needed(subject, share)}',
        )  # fmt: skip


def _needed(subject: Subject, share: float) -> str:
    epochs = subject.get('train_cfg.max_epochs')
    return str(max(1, round(epochs * (1 - share)))) if isinstance(epochs, int) else '...'


def iterations_of_epoch(subject: Subject) -> Optional[int]:
    """Return the number of batches of an epoch; None where it is not known."""
    train, batch = subject.parts.get('train'), subject.get('train_dataloader.batch_size')
    images = 0 if train is None else len(train.labels) or len(train.paths)
    if not images or not isinstance(batch, int) or batch < 1 or subject.get('train_dataloader.batch_sampler'):
        return None
    whole = images // batch if subject.get('train_dataloader.drop_last') else -(-images // batch)
    return max(1, whole)


def rates_of(subject: Subject, group: Sequence[tuple[Path, dict]], rate: float) -> list[float]:
    """Return the rate of each step of the training, epochs or iterations; empty where it cannot be told.

    Args:
        subject (Subject): With its data.
        group (Sequence): Schedulers of one optimizer, with their places.
        rate (float): At the start.
    """
    loop = subject.get('train_cfg', {})
    epochs, iterations = loop.get('max_epochs'), loop.get('max_iters')
    length = iterations_of_epoch(subject)
    nodes = [dict(node) for _, node in group]
    by_epoch = all(node.get('by_epoch', True) and not node.get('convert_to_iter_based') for node in nodes)
    if iterations is None and not isinstance(epochs, int):
        return []
    if by_epoch and iterations is None:
        length = 1  # the rate changes between epochs alone
    if length is None:
        return []
    steps = iterations if isinstance(iterations, int) else epochs * length
    if not 0 < steps <= _MOST_STEPS:
        return []
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedulers: list[tuple[bool, Any]] = []
    for node in nodes:
        kind = class_of('PARAM_SCHEDULERS', node)
        if not isinstance(kind, type) or issubclass(kind, ReduceOnPlateauParamScheduler):
            return []
        node.pop('type')
        build: Any = kind
        own = node.get('by_epoch', True)
        node.setdefault('end', (epochs if own else epochs * length) if iterations is None else steps)
        if node.pop('convert_to_iter_based', False):
            schedulers.append((False, build.build_iter_from_epoch(optimizer=optimizer, epoch_length=length, **node)))
        else:
            schedulers.append((own, build(optimizer=optimizer, **node)))
    optimizer.step()  # without gradients; else torch warns
    rates = []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]['lr']))
        for own, scheduler in schedulers:
            if not own or (step + 1) % length == 0:
                scheduler.step()
    return rates
