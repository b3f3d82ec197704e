"""Findings about the length of the training, its learning rate and its schedules."""

from collections.abc import Iterator
from typing import Any, Optional

from hybridcls.checks import verb_of
from hybridcls.engine.config.change import provenance_of
from hybridcls.engine.config.schedules import scheduler_groups
from hybridcls.engine.config.timm_streams import timm_streams_in
from hybridcls.engine.config.tree import Path, dotted, is_a, value_at, walk

from .finding import NOTE, PROBLEM, WARNING, Finding
from .rate_curve import check_curve, iterations_of_epoch
from .subject import Subject

__all__ = ['check_schedule', 'largest_rate', 'starts_from_weights']

# The largest rates of common recipes, from trained weights and from scratch; above, a training mostly diverges.
_LARGEST = dict(sgd=(0.1, 1.0), lion=(3e-4, 1e-3), adam=(2e-3, 4e-3))
_SMALLEST, _LEAST = 1e-8, 1e-4
_LONG_WARMUP = 0.5  # of the training
_DECAY, _CLIP = 0.5, 1e-3
_SLOW = 0.05  # of Lookahead's step
_EMA_MOMENTUM = 0.0002  # mmengine's default


def check_schedule(subject: Subject) -> Iterator[Finding]:
    """Check the learning rate, schedules, validation and weight averages."""
    loop = subject.get('train_cfg', {})
    by_epoch = loop.get('max_iters') is None
    total = loop.get('max_epochs' if by_epoch else 'max_iters')
    yield from _rate(subject)
    yield from _optimizer(subject)
    if not isinstance(total, int):
        return
    unit = 'epochs' if by_epoch else 'iterations'
    batches = iterations_of_epoch(subject)
    found: list[Finding] = []
    for group in scheduler_groups(subject.get('param_scheduler')):
        for path, scheduler in group:
            if scheduler.get('by_epoch', True) == by_epoch:
                found += _scheduler(path, scheduler, total, unit)
            elif batches and by_epoch:
                found += _scheduler(path, scheduler, total * batches, 'iterations')
    yield from found
    if not found:  # which explains where the rate goes
        yield from check_curve(subject, largest_rate(subject))
    yield from _accumulation(subject, batches)
    yield from _validation(subject, loop, total, unit)
    yield from _averages(subject, total if by_epoch else None)


def starts_from_weights(subject: Subject) -> bool:
    """Return whether the model starts from trained weights, not from random ones."""
    streams = [value_at(subject.cfg, path) for path in timm_streams_in(subject.cfg)]
    own = any(one.get('pretrained') or one.get('checkpoint_path') for one in streams)
    initialised = any(
        isinstance(node, dict) and (node.get('pretrained') is True or node.get('type') == 'Pretrained')
        for _, node in walk(subject.get('model'))
    )
    return bool(own or initialised or subject.get('load_from'))


def largest_rate(subject: Subject) -> float:
    """Return the largest rate that the optimizer mostly bears, on the weights that the model starts from."""
    kind = str(subject.get('optim_wrapper.optimizer.type', ''))
    family = next((name for name in ('sgd', 'lion') if name in kind.lower()), 'adam')
    return _LARGEST[family][not starts_from_weights(subject)]


def _accumulation(subject: Subject, batches: Optional[int]) -> Iterator[Finding]:
    count = subject.get('optim_wrapper.accumulative_counts', 1)
    if batches and isinstance(count, int) and count > batches > 0:
        where = 'optim_wrapper.accumulative_counts'
        level = WARNING if subject.is_written(tuple(where.split('.'))) else NOTE
        what = f'the gradients of {count} batches make an update, and an epoch has {batches}.'
        yield Finding(level, where, what, f'{where}={max(1, batches // 8)}')


def _rate(subject: Subject) -> Iterator[Finding]:
    optimizer = subject.get('optim_wrapper.optimizer', {})
    rate, kind = optimizer.get('lr'), str(optimizer.get('type', ''))
    where = 'optim_wrapper.optimizer.lr'
    if isinstance(rate, str):
        yield Finding(PROBLEM, where, f'lr is the text {rate!r}, not a number.', f'lr={largest_rate(subject) / 10:g}')
    if not isinstance(rate, (int, float)):
        return
    trained = starts_from_weights(subject)
    largest = largest_rate(subject)
    scaled = next((one for one in provenance_of(subject.cfg).changes if dotted(one.path) == where and
                   'scale' in one.why), None)  # fmt: skip
    said = f'lr={rate:.3g}' + (
        f' ({scaled.old:.3g} written, {scaled.why.removeprefix("--auto-scale-lr: ")})' if scaled else ''
    )
    if rate > largest:
        start = 'trained weights' if trained else 'random weights'
        yield Finding(
            PROBLEM if rate > 5 * largest else WARNING, where,
            f'{said} is more than {largest:g}, the most that {kind} usually tolerates on {start}.',
            '--auto-scale-lr: leave it out, because lr is already scaled' if scaled else
            f'lr={largest / 10:g}, or hybridcls doctor ... --lr, which suggests one',
        )  # fmt: skip
    elif rate <= _SMALLEST:
        yield Finding(PROBLEM, where, f'{said}: nothing would be learned.', f'lr={largest / 10:g}')
    elif rate < _LEAST * largest:
        yield Finding(
            WARNING, where, f'{said} is less than a ten-thousandth of what {kind} mostly bears.', f'lr={largest / 10:g}'
        )
    scale = subject.get('auto_scale_lr', {})
    if scaled is None and scale.get('base_batch_size') and 'lr' in subject.cfg and list(subject.written(where)):
        batch = subject.get('train_dataloader.batch_size')
        count = (batch or 0) * subject.get('optim_wrapper.accumulative_counts', 1)
        if count and (count >= 8 * scale['base_batch_size']):
            yield Finding(
                NOTE,
                where,
                f'{said} is for a batch of {scale["base_batch_size"]}, got {count}.',
                '--auto-scale-lr',
            )


def _optimizer(subject: Subject) -> Iterator[Finding]:
    decay = subject.get('optim_wrapper.optimizer.weight_decay', 0)
    if isinstance(decay, (int, float)) and decay >= _DECAY:
        where = 'optim_wrapper.optimizer.weight_decay'
        yield Finding(WARNING, where, f'weight_decay={decay:g} pulls the weights to 0.', f'{where}=0.05')
    betas = subject.get('optim_wrapper.optimizer.betas')
    if isinstance(betas, (list, tuple)) and len(betas) == 2 and betas[0] > betas[1]:
        where = 'optim_wrapper.optimizer.betas'
        yield Finding(
            WARNING,
            where,
            f'betas={tuple(betas)}: the first one is usually the smaller one.',
            f'{where}={tuple(betas[::-1])}',
        )
    momentum = subject.get('optim_wrapper.optimizer.momentum', 0)
    if isinstance(momentum, (int, float)) and momentum >= 1:
        where = 'optim_wrapper.optimizer.momentum'
        yield Finding(
            PROBLEM, where, f'momentum={momentum:g}: each update is larger than the one before, without end.',
            f'{where}=0.9',
        )  # fmt: skip
    clip = subject.get('optim_wrapper.clip_grad.max_norm')
    if isinstance(clip, (int, float)) and clip <= _CLIP:
        where = 'optim_wrapper.clip_grad.max_norm'
        yield Finding(WARNING, where, f'max_norm={clip:g} cuts gradients to almost nothing.', f'{where}=5.0')
    for path, node in walk(subject.get('optim_wrapper'), ('optim_wrapper',)):
        rho = node.get('rho') if isinstance(node, dict) else None
        if isinstance(rho, (int, float)) and rho > 0.5 and not node.get('adaptive'):
            where = dotted((*path, 'rho'))
            yield Finding(
                WARNING, where, f'rho={rho:g} ascends far from the weights (0.05 to 0.2 is common).', f'{where}=0.05'
            )
        alpha = node.get('alpha') if isinstance(node, dict) and _looks_ahead(node) else None
        if isinstance(alpha, (int, float)) and alpha < _SLOW:
            where = dotted((*path, 'alpha'))
            yield Finding(
                WARNING, where, f'alpha={alpha:g}: Lookahead takes back nearly all that the weights have moved (0.5 to '
                '0.8 is common).', f'{where}=0.5',
            )  # fmt: skip


def _looks_ahead(node: dict) -> bool:
    from hybridcls.engine.optim import Lookahead, LookaheadOptimWrapper

    return is_a('OPTIM_STAGES', node, Lookahead) or is_a('OPTIM_WRAPPERS', node, LookaheadOptimWrapper)


def _scheduler(path: Path, scheduler: dict, total: int, unit: str) -> Iterator[Finding]:
    begin, end, kind = scheduler.get('begin', 0), scheduler.get('end'), str(scheduler.get('type'))
    where = dotted(path)
    warms_up = kind.startswith(('Linear', 'Constant')) and begin == 0 and scheduler.get('start_factor', 1 / 3) < 1
    if isinstance(begin, (int, float)) and begin >= total:
        yield Finding(PROBLEM, where, f'{kind} begins after {begin:g} {unit}, and the training ends after {total}.',
                      f'{where}.begin')  # fmt: skip
    elif warms_up and isinstance(end, (int, float)) and end > total:
        yield Finding(
            PROBLEM, where, f'the warm-up takes {end:g} {unit}, and the training ends after {total}: the full rate is '
            'never reached.', f'{where}.end={max(1, total // 10)}',
        )  # fmt: skip
    elif warms_up and isinstance(end, (int, float)) and end > _LONG_WARMUP * total and total > 3:
        yield Finding(
            WARNING, where, f'the warm-up takes {end:g} of {total} {unit}.', f'{where}.end={max(1, total // 10)}'
        )
    length: Any = scheduler.get('T_max')
    until = min(end, total) if isinstance(end, (int, float)) else total
    if isinstance(length, (int, float)) and isinstance(begin, (int, float)):
        if length > 1.2 * (until - begin):
            yield Finding(
                WARNING, where,
                f'T_max={length:g}, and it acts for {until - begin:g} {unit}: the rate does not reach its end.',
                f'{where}.T_max={until - begin:g}',
            )  # fmt: skip
        elif length < 0.8 * (until - begin):
            yield Finding(
                WARNING, where, f'T_max={length:g}, and it acts for {until - begin:g} {unit}: the rate rises again.',
                f'{where}.T_max={until - begin:g}',
            )  # fmt: skip
    total_steps = scheduler.get('total_steps')
    if isinstance(total_steps, int) and not 0.8 * total <= total_steps <= 1.2 * total:
        yield Finding(
            WARNING, f'{where}.total_steps', f'total_steps={total_steps}, and the training has {total} {unit}.',
            f'{where}.total_steps={total}',
        )  # fmt: skip
    late = [one for one in scheduler.get('milestones') or () if one >= total]
    if late:
        come = verb_of(len(late), 'comes', 'come')
        what = (
            f'{len(late)} of {len(scheduler["milestones"])} milestones {come} after the end of {total} {unit}: {late}.'
        )
        yield Finding(WARNING, f'{where}.milestones', what, f'{where}.milestones')


def _validation(subject: Subject, loop: dict, total: int, unit: str) -> Iterator[Finding]:
    interval, checkpoint = loop.get('val_interval', 1), subject.get('default_hooks.checkpoint', {})
    begin = loop.get('val_begin', 1)
    if subject.get('val_cfg') is not None and isinstance(interval, int) and max(interval, begin) > total:
        yield Finding(
            PROBLEM if checkpoint.get('save_best') else WARNING, 'train_cfg.val_interval',
            f'the first validation comes after {max(interval, begin)} {unit}, and the training ends after {total}.',
            'train_cfg.val_interval=1',
        )  # fmt: skip
    if subject.get('val_cfg') is None and checkpoint.get('save_best'):
        what = f'save_best={checkpoint["save_best"]!r}, but there is no validation.'
        yield Finding(PROBLEM, 'default_hooks.checkpoint.save_best', what, 'val_dataloader, val_cfg and val_evaluator')
    every = checkpoint.get('interval')
    by_same = checkpoint.get('by_epoch', True) == (unit == 'epochs')
    if isinstance(every, int) and (every > total or every < 0) and by_same and not checkpoint.get('save_last', True):
        where = 'default_hooks.checkpoint'
        yield Finding(PROBLEM, where, f'no checkpoint is written: interval={every}, {total} {unit}, save_last=False.',
                      f'{where}.save_last=True')  # fmt: skip


def _averages(subject: Subject, epochs: Optional[int]) -> Iterator[Finding]:
    from mmengine.hooks import EMAHook

    from hybridcls.engine.config.tree import is_a

    for path, hook in walk({key: subject.get(key) for key in ('default_hooks', 'custom_hooks')}):
        momentum = hook.get('momentum') if isinstance(hook, dict) and is_a('HOOKS', hook, EMAHook) else None
        if isinstance(momentum, (int, float)) and momentum > 0.5:
            where = dotted((*path, 'momentum'))
            yield Finding(
                PROBLEM, where, f'momentum={momentum:g} is the weight of the newest weights, so almost nothing is '
                'averaged.',
                f'{where}={1 - momentum:.2g}' if momentum < 1 else f'{where}=0.0002',
            )  # fmt: skip
        batch, train = subject.get('train_dataloader.batch_size'), subject.parts.get('train')
        if not (isinstance(hook, dict) and is_a('HOOKS', hook, EMAHook) and epochs and batch and train):
            continue
        updates = epochs * max(1, len(train.labels) // batch)
        momentum, kind = hook.get('momentum', _EMA_MOMENTUM), str(hook.get('ema_type', 'ExponentialMovingAverage'))
        if kind == 'ExponentialMovingAverage' and isinstance(momentum, float) and momentum * updates < 1:
            where = dotted((*path, 'momentum'))
            yield Finding(
                WARNING, where,
                f'the average looks back on {1 / momentum:,.0f} updates, but the training has only {updates:,}, so '
                'it stays near the first weights.', f'{where}={min(0.5, 10 / updates):.2g}',
            )  # fmt: skip
