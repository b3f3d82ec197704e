"""Fit schedules to a training that is shorter, counts iterations, or has another batch size than its base."""

from collections.abc import Iterator
from typing import Any, Optional, Union

from mmengine.config import Config

from hybridcls.checks import check_number

from .change import Change, layer_of
from .layers import ConfigError
from .tree import ABSENT, Path, dotted, is_a, value_at

__all__ = [
    'by_optimizer',
    'check_length',
    'fit_to_batches',
    'fitted_schedules',
    'fractions',
    'iterations',
    'leaves_length_open',
    'scaled_lr',
    'scheduler_groups',
]

_SHARES = 5  # of a training; a warm-up that does not fit gets one
# Keys of schedulers that count what they count by: epochs or iterations.
_COUNTS = (
    'begin', 'end', 'T_max', 'milestones', 'step_size', 'periods', 'total_steps', 'total_iters', 'patience',
)  # fmt: skip
_FRACTIONS = {'begin_fraction', 'end_fraction'}
_FEWEST_STEPS = 2  # of a schedule that is to change anything


def by_optimizer(schedulers: Any) -> dict[str, list]:
    """Group the schedulers, as configs, objects or states, by the name of their optimizer.

    Returns:
        dict[str, list]: The key is an empty string where there is one optimizer.
    """
    several = isinstance(schedulers, dict) and 'type' not in schedulers
    groups = schedulers if several else {'': schedulers}
    return {
        name: list(group) if isinstance(group, (list, tuple)) else [] if group is None else [group]
        for name, group in groups.items()
    }


def scheduler_groups(schedulers: Any, path: Path = ('param_scheduler',)) -> Iterator[list[tuple[Path, dict]]]:
    """Yield the schedulers that act on one optimizer, each with its path; built ones are left out."""
    if isinstance(schedulers, dict) and 'type' not in schedulers:  # of several optimizers
        for name, group in schedulers.items():
            yield from scheduler_groups(group, (*path, name))
    elif isinstance(schedulers, dict):
        yield [(path, schedulers)]
    elif isinstance(schedulers, (list, tuple)):
        yield [((*path, number), one) for number, one in enumerate(schedulers) if isinstance(one, dict)]


def _counts_epochs(loop: dict) -> bool:
    if loop.get('type') is not None:
        from mmengine.runner import IterBasedTrainLoop

        return not is_a('LOOPS', loop, IterBasedTrainLoop)
    return loop.get('by_epoch', 'max_iters' not in loop or 'max_epochs' in loop)


def check_length(cfg: Config) -> None:
    """Raise unless ``train_cfg`` sets the length of the training to a positive integer, or leaves it to the data.

    Raises:
        ConfigError: If it does not say.
        TypeError, ValueError: If it is no positive integer.
    """
    loop: Any = cfg.train_cfg
    total = 'max_epochs' if _counts_epochs(loop) else 'max_iters'
    if loop.get('type') is None and loop.get(total) is None and not leaves_length_open(cfg):
        raise ConfigError(
            f'train_cfg: by_epoch={_counts_epochs(loop)}, and {total} is not set: --cfg-options '
            f'train_cfg.{total}={100 if total == "max_epochs" else 10000}'
        )
    if loop.get(total) is not None:
        check_number('train_cfg', total, loop[total], 1, integer=True)


def leaves_length_open(cfg: Config) -> bool:
    """Return whether the data determine the number of epochs: the top-level ``max_epochs`` is None."""
    loop: Any = cfg.train_cfg
    return 'max_epochs' in cfg and cfg.max_epochs is None and loop.get('max_epochs') is None and _counts_epochs(loop)


def fractions(cfg: Config) -> Iterator[Change]:
    """Convert ``begin_fraction`` and ``end_fraction`` of schedules, as shares of the training, to a begin and an end.

    ``dict(type='LinearLR', start_factor=0.01, end_fraction=0.1)`` warms up in a tenth of the training, however long
    that is; such a schedule moves with each iteration. Nothing is done as long as the length is not known.

    Raises:
        ConfigError: If a schedule has both forms of a key.
        TypeError, ValueError: If a fraction is none.
    """
    loop: Any = cfg.train_cfg
    by_epoch = _counts_epochs(loop)
    total = loop.get('max_epochs' if by_epoch else 'max_iters')
    if not total:
        return
    for group in scheduler_groups(cfg.get('param_scheduler')):
        for path, scheduler in group:
            for key in ('begin', 'end'):
                fraction = scheduler.get(f'{key}_fraction')
                if fraction is None:
                    continue
                check_number(dotted(path), f'{key}_fraction', fraction, 0, 1)
                if key in scheduler:
                    raise ConfigError(f'{dotted(path)} has {key} and {key}_fraction. Drop one of them.')
                place = fraction * total if by_epoch else round(fraction * total)
                why = f'{fraction:g} of {total} {"epochs" if by_epoch else "iterations"}'
                yield Change((*path, key), ABSENT, place, why)
                yield Change((*path, f'{key}_fraction'), fraction, ABSENT, why, 'fractions', False)
                counts = dict(by_epoch=True, convert_to_iter_based=True) if by_epoch else dict(by_epoch=False)
                for name, value in counts.items():
                    if name not in scheduler:
                        yield Change((*path, name), ABSENT, value, why, told=False)


def iterations(cfg: Config) -> Iterator[Change]:
    """Convert schedules, hooks and validations of a base from epochs to iterations, if the training counts those.

    ``--cfg-options train_cfg.by_epoch=False train_cfg.max_iters=5000`` inherits a number of epochs, schedules in
    epochs, and a CheckpointHook that waits for the end of an epoch that never comes. The epochs are taken out;
    schedules keep their shape (a warm-up of a twentieth stays a twentieth), and a base's validations their number;
    checkpoints are written with each validation and the log counts iterations, unless these hooks say themselves what
    they count.
    """
    loop: Any = cfg.train_cfg
    if _counts_epochs(loop) or loop.get('max_iters') is None:
        return
    by: Path = ('train_cfg', 'max_iters')
    why = f'the training counts {loop["max_iters"]} iterations'
    epochs = loop.get('max_epochs') or cfg.get('max_epochs')
    if loop.get('max_epochs') is not None:
        yield Change(('train_cfg', 'max_epochs'), loop['max_epochs'], ABSENT, why, by)
    intervals = {}
    for key in ('val_interval', 'val_begin'):
        place: Path = ('train_cfg', key)
        if loop.get(key) and epochs and layer_of(cfg, place).rank < layer_of(cfg, by).rank:
            intervals[key] = max(1, round(loop[key] * loop['max_iters'] / epochs))
            yield Change(place, loop[key], intervals[key], why, by)
    for group in scheduler_groups(cfg.get('param_scheduler')):
        for path, scheduler in group:
            if scheduler.get('by_epoch', True) and not _FRACTIONS & scheduler.keys():
                yield from _stretched(path, scheduler, epochs, loop['max_iters'], why, by)
    checkpoint = value_at(cfg, ('default_hooks', 'checkpoint'))
    if isinstance(checkpoint, dict) and checkpoint.get('by_epoch') is None:
        place = ('default_hooks', 'checkpoint')
        yield Change((*place, 'by_epoch'), checkpoint.get('by_epoch', ABSENT), False, why)
        interval = checkpoint.get('interval', ABSENT)
        # One that stands as near as the iterations was meant to count them.
        if interval is ABSENT or layer_of(cfg, (*place, 'interval')).rank < layer_of(cfg, by).rank:
            validation = intervals.get('val_interval', loop.get('val_interval', 1000))
            yield Change((*place, 'interval'), interval, validation, why, by)
    logger = value_at(cfg, ('default_hooks', 'logger'))
    if isinstance(logger, dict) and 'log_metric_by_epoch' not in logger:
        yield Change(('default_hooks', 'logger', 'log_metric_by_epoch'), ABSENT, False, why)
    processor = value_at(cfg, ('log_processor', 'by_epoch'))
    if processor in (ABSENT, None, True):
        yield Change(('log_processor', 'by_epoch'), processor, False, why, by)


def _stretched(path: Path, scheduler: dict, epochs: Optional[int], total: int, why: str, by: Path) -> Iterator[Change]:
    if not epochs:
        raise ConfigError(
            f'{dotted(path)} counts epochs, but the training counts iterations. Give it by_epoch=False, with begin '
            'and end in iterations.'
        )
    from mmengine.optim import ExponentialParamScheduler

    factor = total / epochs

    def stretch(value: Any) -> Any:
        return type(value)(map(stretch, value)) if isinstance(value, (list, tuple)) else max(1, round(value * factor))

    if 'convert_to_iter_based' in scheduler:
        yield Change((*path, 'convert_to_iter_based'), scheduler['convert_to_iter_based'], ABSENT, why, by)
    yield Change((*path, 'by_epoch'), scheduler.get('by_epoch', ABSENT), False, why, by)
    for key in _COUNTS:
        if scheduler.get(key):
            yield Change((*path, key), scheduler[key], stretch(scheduler[key]), why, by)
    exponential = is_a('PARAM_SCHEDULERS', scheduler, ExponentialParamScheduler)
    if exponential and scheduler.get('gamma'):  # once an epoch; now once an iteration
        yield Change((*path, 'gamma'), scheduler['gamma'], scheduler['gamma'] ** (1 / factor), why, by)


def fitted_schedules(cfg: Config) -> Iterator[Change]:
    """Shorten a base's warm-up that is longer than the training.

    ``max_epochs=2`` in a config whose base has a cosine that begins after 5 epochs of warm-up would end in an error of
    mmengine's scheduler. What begins at or after the end begins, and what ends there ends, after a fifth of the
    training.

    Raises:
        ConfigError: If such a scheduler counts whole epochs (no ``convert_to_iter_based=True``), so that there is no
            fifth; names it, and what would work.
    """
    for group in scheduler_groups(cfg.get('param_scheduler')):
        for path, scheduler in group:
            by_epoch = scheduler.get('by_epoch', True)
            key = 'max_epochs' if by_epoch else 'max_iters'
            total, begin = cfg.train_cfg.get(key), scheduler.get('begin', 0)
            if not total or not isinstance(begin, (int, float)) or begin < total:
                continue
            unit = 'epochs' if by_epoch else 'iterations'
            if by_epoch and not scheduler.get('convert_to_iter_based', False):
                raise ConfigError(
                    f'{dotted(path)} begins after {begin} epochs, but the training ends after {total}. Give it '
                    f'convert_to_iter_based=True, or a smaller begin: --cfg-options {dotted(path)}.begin={total - 1}'
                )
            shortened = total / _SHARES if by_epoch else max(1, total // _SHARES)
            why = f'the training ends after {total} {unit}, before this schedule began'
            yield Change((*path, 'begin'), begin, shortened, why, ('train_cfg', key))
            for place, other in group:
                if other.get('by_epoch', True) == by_epoch and other.get('end') == begin:
                    yield Change((*place, 'end'), begin, shortened, why, ('train_cfg', key))


def fit_to_batches(schedulers: Any, batches: int) -> Any:
    """Return the schedulers of a config for epochs with so few batches that a warm-up has no step.

    What ends within the first two batches is left out, and what comes after it begins at once: a warm-up of mmengine
    reaches its end only by a second step; one of a single step would keep its small rate.
    """
    groups = {name: _fitted(group, batches) for name, group in by_optimizer(schedulers).items()}
    return groups.get('', groups)


def _fitted(schedulers: list, batches: int) -> list:
    fitted = []
    for scheduler in schedulers:
        by_epoch = isinstance(scheduler, dict) and scheduler.get('by_epoch', True)
        if not isinstance(scheduler, dict) or (by_epoch and not scheduler.get('convert_to_iter_based')):
            fitted.append(scheduler)
            continue
        steps = batches if by_epoch else 1  # in one of the units that it counts
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if end is None or end * steps >= _FEWEST_STEPS:
            fitted.append({**scheduler, 'begin': 0} if 0 < begin * steps < _FEWEST_STEPS else scheduler)
    return fitted


def scaled_lr(cfg: Config, processes: int, asked: bool) -> Iterator[Union[Change, str]]:
    """Scale the learning rate, and absolute ends of its schedules, with the number of images per update.

    The factor is batch size x accumulated batches x processes / ``auto_scale_lr.base_batch_size``. ``enable`` is set to
    False, so that mmengine does not scale again.

    Args:
        cfg (Config): Read.
        processes (int): How many train.
        asked (bool): Whether ``--auto-scale-lr`` was given; ``auto_scale_lr.enable=True`` asks for the same.

    Raises:
        ConfigError: If the config does not say for which batch its rate is meant, or which batch or rate it has.
    """
    scale = cfg.get('auto_scale_lr') or {}
    if not (asked or scale.get('enable')):
        return
    if not scale.get('base_batch_size'):
        raise ConfigError(
            '--auto-scale-lr: the config does not name the batch size that its learning rate is for; add '
            'auto_scale_lr = dict(base_batch_size=...).'
        )
    wrapper: Any = cfg.optim_wrapper
    rate = value_at(wrapper, ('optimizer', 'lr'))
    if rate in (ABSENT, None):
        raise ConfigError(
            '--auto-scale-lr: expected one optimizer with a learning rate, optim_wrapper.optimizer.lr, got none. Set '
            'it, or scale the rates of several optimizers by hand.'
        )
    batch = cfg.train_dataloader.get('batch_size')
    if batch is None:
        raise ConfigError('--auto-scale-lr: train_dataloader.batch_size is not set. Set it, or leave the option out.')
    accumulated = wrapper.get('accumulative_counts') or 1
    factor = batch * accumulated * processes / scale['base_batch_size']
    why = (
        f'--auto-scale-lr: {batch} images x {accumulated} accumulated x {processes} '
        f'process{"es" if processes > 1 else ""} / base_batch_size {scale["base_batch_size"]}'
    )
    yield Change(('optim_wrapper', 'optimizer', 'lr'), rate, rate * factor, why, '--auto-scale-lr')
    for group in scheduler_groups(cfg.get('param_scheduler')):
        for path, scheduler in group:
            for key in ('eta_min', 'eta_max', 'min_value'):
                if isinstance(scheduler.get(key), (int, float)) and scheduler[key]:
                    yield Change((*path, key), scheduler[key], scheduler[key] * factor, why, '--auto-scale-lr')
    yield Change(
        ('auto_scale_lr', 'enable'), scale.get('enable', ABSENT), False, 'the rate is scaled', '--auto-scale-lr', False
    )
