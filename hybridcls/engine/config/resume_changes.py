"""Apply the config changes since the checkpoint of a resumed run, or name them in the log."""

import warnings
from collections.abc import Set
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop

from hybridcls.checks import counted
from hybridcls.compat.torch import follow_fused_groups
from hybridcls.literals import read_assignments
from hybridcls.signatures import arguments_of

from ..optim.update.parameter_names import wrappers_by_name
from .facts import config_facts
from .fused_optimizer import fused_by_default
from .renamed import with_new_spellings
from .schedules import by_optimizer

__all__ = ['apply_changes']

_MOST_LINES = 20


def apply_changes(runner: Any, checkpoint: dict, batches_per_epoch: Optional[int], processes: Optional[int]) -> None:
    """Adapt a checkpoint that is about to be resumed, in place, to the present config.

    mmengine would overrule the config by the checkpoint: learning rates, weight decays and schedules would stay those
    of the beginning. Here

    - a learning rate, weight decay or other number of an optimizer that changed is that of the config, group by group;
    - schedules that changed, in number, shape, length or base values, are at the place where they would be now, had the
      whole training had them. Those that look at validations (ReduceOnPlateau) keep what they remember instead;
    - with another number of batches an epoch, the iteration is the one at the same share of the training;
    - an optimizer of another type begins without a state;
    - everything else that changed is named in the log.

    With the same config and data nothing is touched.

    Args:
        runner (Runner): Built from the present config, nothing loaded yet.
        checkpoint (dict): What is going to be loaded.
        batches_per_epoch (int, optional): Of the run that saved it, if known.
        processes (int, optional): Of that run, if known.

    Raises:
        ValueError: If the optimizer has another number of parameter groups than the checkpoint.
    """
    changes, unfused = _changes(runner, checkpoint)
    _rescale_iteration(runner, checkpoint['meta'], batches_per_epoch)
    optimizer_changed = any(key.startswith(('optim_wrapper.', 'auto_scale_lr.')) for key in changes)
    if (runner.cfg.get('auto_scale_lr') or {}).get('enable') and (
        processes not in (None, get_world_size()) or 'train_dataloader.batch_size' in changes
    ):
        optimizer_changed = True
    if any(key.startswith('optim_wrapper.') and key.endswith('optimizer.type') for key in changes):
        runner.logger.warning('The optimizer is not the one of the checkpoint, so its state starts again.')
        checkpoint.pop('optimizer', None)
    wrappers, packed = wrappers_by_name(runner.optim_wrapper), checkpoint.get('optimizer')
    built, saved = by_optimizer(runner.param_schedulers), by_optimizer(checkpoint.get('param_schedulers'))
    for name, wrapper in wrappers.items():
        state = (packed[name] if name else packed) if packed else None
        if state is not None and optimizer_changed:
            _update_groups(state, wrapper, {'fused'} if unfused else set())
        if state is not None and unfused:
            follow_fused_groups(wrapper.optimizer, state['param_groups'])
        schedulers, states = built.get(name, []), saved.get(name, [])
        if (not schedulers and not states) or not _differ(states, schedulers):
            continue
        new_states = _move_schedules(runner, checkpoint['meta'], wrapper, schedulers, states, state)
        if schedulers and name:
            checkpoint.setdefault('param_schedulers', {})[name] = new_states
        elif schedulers:
            checkpoint['param_schedulers'] = new_states
    _say_if_nothing_is_left(runner, checkpoint['meta'])


def _changes(runner: Any, checkpoint: dict) -> tuple[dict[str, tuple[str, str]], bool]:
    """Return and log the dotted keys that differ, with old and new value as text; also whether fusing stays off."""
    text = checkpoint['meta'].get('cfg')
    if not isinstance(text, str):
        return {}, False
    try:
        written = read_assignments(text)  # a config is code, and nothing of a checkpoint is run
    except SyntaxError as error:
        runner.logger.warning(f'The config in the checkpoint cannot be read, so its changes are not listed: {error}')
        return {}, False
    old, new = config_facts(with_new_spellings(written)), config_facts(runner.cfg)
    changes = {
        key: (old.get(key, 'not set'), new.get(key, 'not set'))
        for key in sorted({*old, *new})
        # Our scope in front of a type is no change, and older checkpoints have none.
        if str(old.get(key)).replace("'hybridcls.", "'") != str(new.get(key)).replace("'hybridcls.", "'")
    }
    # Older runs had no fused optimizer unless they said so; the saved groups know it, and the run rounds as before.
    filled = [key for key in fused_by_default(runner.cfg) if key in changes]
    for key in filled:
        del changes[key]
    for key, (before, now) in list(changes.items())[:_MOST_LINES]:
        kept = ', which is kept because the order of the data depends on it' if key == 'randomness.seed' else ''
        runner.logger.warning(f'{key} {before} -> {now} (config changed since the checkpoint{kept})')
    if len(changes) > _MOST_LINES:
        runner.logger.warning(f'... and {len(changes) - _MOST_LINES} more changes of the config')
    return changes, bool(filled)


def _rescale_iteration(runner: Any, meta: dict, before: Optional[int]) -> None:
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    now, old = len(runner.train_dataloader), meta['iter']
    if before is None or before == now:
        return
    done = old - meta['epoch'] * before
    meta['iter'] = meta['epoch'] * now + round(now * done / before)
    part = f', and {done} of {before} of the current epoch are done' if done else ''
    runner.logger.warning(
        f'An epoch has {counted(now, "batch", "batches")}, {before} in the checkpoint{part}: iteration {old} is now '
        f'{meta["iter"]}.' + (' Some images of this epoch may be seen twice, and others not at all.' if done else '')
    )


def _update_groups(state: dict, wrapper: Any, kept: Set[str]) -> None:
    """Update the saved parameter groups with the config's values, except for the keys in ``kept``."""
    built, saved = wrapper.param_groups, _groups_of(state)
    if len(built) != len(saved):
        raise ValueError(
            f'resume: expected {len(saved)} parameter groups, as in the checkpoint, got {len(built)} from the config. '
            'Use the old optim_wrapper.paramwise_cfg, or start with load_from, without resume.'
        )
    for old, new in zip(saved, built, strict=True):
        for key in [key for key in new if key not in {'params', *kept} and not key.startswith('initial_')]:
            initial = f'initial_{key}'
            if initial in new and initial in old:  # scheduled: the value of now follows from the initial one
                if old[initial] != new[initial]:
                    old[key] = old[key] * new[initial] / old[initial] if old[initial] else new[key]
                    old[initial] = new[initial]
            elif key in old and _plain(old[key]) != _plain(new[key]):
                old[key] = new[key]


def _move_schedules(
    runner: Any, meta: dict, wrapper: Any, schedulers: list, states: list[dict], state: Optional[dict]
) -> list[dict]:
    """Advance the schedules to the resumed iteration, update the saved groups, and return the schedules' states."""
    if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
        return _remembering(runner, schedulers, states)
    runner.logger.warning(
        f'Schedules have changed since the checkpoint: they continue as if they had been like this for {meta["iter"]} '
        'iterations.'
    )
    per_epoch = len(runner.train_dataloader) if isinstance(runner.train_loop, EpochBasedTrainLoop) else 0
    epochs = 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # no step of the optimizer has been between them
        for iteration in range(1, meta['iter'] + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if per_epoch and iteration % per_epoch == 0 and epochs < meta['epoch']:
                epochs += 1
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()
    names = {scheduler.param_name for scheduler in schedulers}
    for old, new in zip(_groups_of(state) if state else [], wrapper.param_groups, strict=False):
        scheduled = {key.removeprefix('initial_') for key in old if str(key).startswith('initial_')}
        for name in names | scheduled:
            old[name] = new[name]
            old.pop(f'initial_{name}', None)
            if f'initial_{name}' in new:
                old[f'initial_{name}'] = new[f'initial_{name}']
    return [scheduler.state_dict() for scheduler in schedulers]


def _remembering(runner: Any, schedulers: list, states: list[dict]) -> list[dict]:
    """Return each schedule's saved state, matched by keys and parameter, with the config's arguments."""
    left, found = list(states), []
    for scheduler in schedulers:
        own, facts = scheduler.state_dict(), _facts(scheduler)
        before = next(
            (one for one in left if one.keys() == own.keys() and one['param_name'] == scheduler.param_name), None
        )
        if before is None:
            runner.logger.warning(f'{type(scheduler).__name__} is not in the checkpoint: it starts here.')
            found.append(own)
        else:
            left.remove(before)
            found.append({**before, **facts})
    return found


def _differ(states: list[dict], schedulers: list) -> bool:
    return len(states) != len(schedulers) or any(
        {name: _plain(state.get(name)) for name in _facts(scheduler)} != _facts(scheduler)
        for state, scheduler in zip(states, schedulers, strict=True)
    )


def _facts(scheduler: Any) -> dict[str, Any]:
    """Return the arguments of a schedule, and the values that it starts from."""
    names, _ = arguments_of(type(scheduler))
    own = vars(scheduler)
    kept = ({*names} - {'optimizer', 'last_step', 'verbose'} | {'base_values'}) & own.keys()
    return {name: _plain(own[name]) for name in sorted(kept)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _groups_of(state: dict) -> list[dict]:
    """Return the groups of an optimizer's state, with mmengine's base settings, in the order of ``param_groups``."""
    base = state.get('base_param_settings')
    return [*state['param_groups'], *([base] if base is not None else [])]


def _say_if_nothing_is_left(runner: Any, meta: dict) -> None:
    unit = 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iter'
    limit = getattr(runner.train_loop, f'max_{unit}s')
    if meta[unit] >= limit:
        runner.logger.warning(
            f'The checkpoint is at {unit} {meta[unit]}, and max_{unit}s={limit}: nothing is left to train.'
        )
