"""A config that counts epochs, of which somebody asks for iterations: ``train_cfg.by_epoch=False``."""

import logging
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from hybridcls.checks import check_number

from .config import ConfigError

__all__ = ['count_iterations']


def count_iterations(cfg: Config) -> None:
    """Let a training by iterations have everything else count them too, in place, and say so.

    ``--cfg-options train_cfg.by_epoch=False train_cfg.max_iters=5000`` inherits from its base a number of epochs,
    schedules in epochs, and a CheckpointHook that waits for the end of an epoch that never comes. The epochs are taken
    out; schedules keep their shape (a warm-up of a twentieth stays a twentieth); checkpoints are written with each
    validation and the log counts iterations, unless these hooks say themselves what they count.

    Raises:
        ConfigError: If nobody says how many iterations.
        TypeError, ValueError: If the number of epochs or iterations is none, or not positive.
    """
    loop: Any = cfg.train_cfg
    by_epoch = loop.get('by_epoch', 'max_iters' not in loop or 'max_epochs' in loop)
    total = 'max_epochs' if by_epoch else 'max_iters'
    if loop.get('type') is None and loop.get(total) is None:
        raise ConfigError(
            f'train_cfg: by_epoch={by_epoch}, and {total} is not said: --cfg-options '
            f'train_cfg.{total}={100 if by_epoch else 10000}'
        )
    if loop.get(total) is not None:
        check_number('train_cfg', total, loop[total], 1, integer=True)
    if by_epoch or loop.get('type') is not None:
        return
    epochs = loop.pop('max_epochs', None)
    _rescale(cfg.get('param_scheduler'), epochs, loop['max_iters'])
    hooks = cfg.get('default_hooks') or {}
    if 'checkpoint' in hooks and 'by_epoch' not in hooks['checkpoint']:
        hooks['checkpoint'].update(by_epoch=False, interval=loop.get('val_interval', 1000))
    if 'logger' in hooks:
        hooks['logger'].setdefault('log_metric_by_epoch', False)
    cfg.log_processor = {**(cfg.get('log_processor') or {}), 'by_epoch': False}
    print_log(
        f'The training counts iterations ({loop["max_iters"]}): schedules in epochs are stretched to them, and '
        f'every {loop.get("val_interval", 1000)} (train_cfg.val_interval) it validates and saves.',
        logger='current',
        level=logging.WARNING,
    )


def _rescale(schedulers: Any, epochs: Any, iterations: int) -> None:
    if isinstance(schedulers, dict) and 'type' not in schedulers:  # of several optimizers
        for group in schedulers.values():
            _rescale(group, epochs, iterations)
        return
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]):
        if not isinstance(scheduler, dict) or not scheduler.get('by_epoch', True):
            continue
        if not epochs:
            raise ConfigError(
                f'param_scheduler.{number} counts epochs, and the training counts iterations. Give it '
                'by_epoch=False, with begin and end in iterations.'
            )
        scheduler.pop('convert_to_iter_based', None)
        scheduler['by_epoch'] = False
        for key in ('begin', 'end', 'T_max'):
            if scheduler.get(key):
                scheduler[key] = max(1, round(scheduler[key] * iterations / epochs))
