"""Let a schedule fit into a training that was made shorter than its warm-up."""

import logging
import math
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from .config import ConfigError

__all__ = ['fit_schedules']

_SHARE = 0.2  # of a training, for a warm-up that does not fit


def fit_schedules(cfg: Config) -> None:
    """Shorten a warm-up that is longer than the training, in place, and say so.

    ``--cfg-options train_cfg.max_epochs=2`` on a config whose cosine begins after 5 epochs of warm-up would end in an
    error of mmengine's scheduler. Here whatever begins at or after the end begins, and what ends there ends, after a
    fifth of the training.

    Args:
        cfg (Config): With ``train_cfg`` and ``param_scheduler``.

    Raises:
        ConfigError: If such a scheduler counts whole epochs (no ``convert_to_iter_based=True``), so that there is no
            fifth; names it, and what would work.
    """
    schedulers = cfg.get('param_scheduler')
    if isinstance(schedulers, dict) and 'type' not in schedulers:  # of several optimizers
        groups = list(schedulers.values())
    else:
        groups = [schedulers]
    for group in groups:
        for number, scheduler in enumerate(group if isinstance(group, (list, tuple)) else [group]):
            if isinstance(scheduler, dict):
                _fit(cfg, f'param_scheduler.{number}', scheduler, group)


def _fit(cfg: Config, who: str, scheduler: dict, group: Any) -> None:
    by_epoch = scheduler.get('by_epoch', True)
    total = cfg.train_cfg.get('max_epochs' if by_epoch else 'max_iters')
    begin = scheduler.get('begin', 0)
    if not total or begin < total:
        return
    unit = 'epochs' if by_epoch else 'iterations'
    if by_epoch and not scheduler.get('convert_to_iter_based', False):
        raise ConfigError(
            f'{who} begins after {begin} epochs, and the training ends after {total}. Give it '
            f'convert_to_iter_based=True, or a smaller begin: --cfg-options {who}.begin={total - 1}'
        )
    shortened = _SHARE * total if by_epoch else max(1, math.floor(_SHARE * total))
    print_log(
        f'{who} ({scheduler["type"]}) begins after {begin} {unit}, and the training ends after {total}: what '
        f'comes before it is shortened to {shortened:g} {unit}.',
        logger='current',
        level=logging.WARNING,
    )
    scheduler['begin'] = shortened
    for other in group if isinstance(group, (list, tuple)) else [group]:
        if isinstance(other, dict) and other.get('by_epoch', True) == by_epoch and other.get('end') == begin:
            other['end'] = shortened
