"""Resume a run: apply config changes, restore the memory of hooks, and catch up on a validation."""

from bisect import bisect
from typing import Any, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from hybridcls.compat.mmengine import bare_model, built_loop, resumes
from hybridcls.models.backbones.channels_last import cnn_streams, set_channels_last
from hybridcls.plain_content import to_plain
from hybridcls.registry import HOOKS

from ..config.resume_changes import apply_changes

_MEMORY: dict[type[Hook], tuple[str, ...]] = {EarlyStoppingHook: ('wait_count', 'best_score')}


@HOOKS.register_module()
class ResumeHook(Hook):
    """Make a resumed run equal to an uninterrupted one, apart from what the user changed in the config.

    - What changed in the config since the checkpoint is applied or named:
      :func:`~hybridcls.engine.config.resume_changes.apply_changes`.
    - Hooks with a memory keep it: mmengine's EarlyStoppingHook, and every hook that has ``state_dict`` and
      ``load_state_dict`` (plain numbers, lists, dicts and tensors), found again by its class and its turn.
    - CNN streams keep the memory layout that they had, if ``env_cfg.channels_last`` leaves it open.
    - A checkpoint is written before the validation of its epoch. If that validation is not in it, it is done first, so
      that the best checkpoint, early stopping and schedules on plateaus miss none.
    """

    priority = 'LOWEST'  # after the hooks that load, and those that must be ready for a validation

    def __init__(self) -> None:
        self._validated: Optional[int] = None  # the iteration of the last validation, if known
        self._was_resumed = False

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Note that this state has been validated."""
        if runner.iter > 0:
            self._validated = runner.iter

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the memory of hooks."""
        loader = runner.train_dataloader
        checkpoint['resume'] = dict(
            batches_per_epoch=len(loader) if hasattr(loader, '__len__') else None,
            processes=get_world_size(),
            validated=self._validated or 0,
            channels_last=_in_channels_last(runner),
            # Here, since CheckpointHook has done so for the hooks before this one.
            hooks={name: to_plain(_state_of(hook), name) for name, hook in _remembering(runner).items()},
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the memory of hooks, and compare the configs."""
        saved = checkpoint.pop('resume', {})
        if not resumes(runner) or built_loop(runner, 'train') is None:  # a test of a config that says resume
            return
        self._was_resumed = True
        before = checkpoint['meta']['iter']
        apply_changes(runner, checkpoint, saved.get('batches_per_epoch'), saved.get('processes'))
        _keep_layout(runner, saved.get('channels_last', []))
        self._validated = saved.get('validated')
        if self._validated == before:
            self._validated = checkpoint['meta']['iter']
        for name, hook in _remembering(runner).items():
            if name in saved.get('hooks', {}):
                _give_back(hook, saved['hooks'][name])

    def before_train(self, runner: Runner) -> None:
        """Validate first, if that comes before the next epoch."""
        was_resumed, self._was_resumed = self._was_resumed, False
        if was_resumed and self._validated is not None and self._validated < runner.iter and _is_due(runner):
            runner.logger.info('The checkpoint was written before its validation, which now runs first.')
            runner.val_loop.run()


def _in_channels_last(runner: Any) -> list[str]:
    """Return the streams that compute in channels last."""
    streams = cnn_streams(bare_model(runner.model))
    return [name for name, stream in streams.items() if stream.memory_format is not None]


def _keep_layout(runner: Any, before: list[str]) -> None:
    """Keep the streams in the memory format of the interrupted run, unless the config sets another one."""
    if (runner.cfg.get('env_cfg') or {}).get('channels_last') is None and _in_channels_last(runner) != before:
        runner.logger.info(f'Channels last, as in the checkpoint: {", ".join(before) or "no stream"}.')
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        for model in (bare_model(runner.model), *averages):
            set_channels_last(model, before)


def _remembering(runner: Any) -> dict[str, Hook]:
    """Return the hooks with a memory, by class and order."""
    named: dict[str, Hook] = {}
    for hook in runner.hooks:
        if isinstance(hook, tuple(_MEMORY)) or (hasattr(hook, 'state_dict') and hasattr(hook, 'load_state_dict')):
            kind = type(hook).__name__
            named[f'{kind}.{sum(type(other).__name__ == kind for other in named.values())}'] = hook
    return named


def _state_of(hook: Any) -> Any:
    if hasattr(hook, 'state_dict'):
        return hook.state_dict()
    names = next(names for kind, names in _MEMORY.items() if isinstance(hook, kind))
    return {**{name: float(getattr(hook, name)) for name in names}, 'monitor': hook.monitor}


def _give_back(hook: Any, state: Any) -> None:
    if hasattr(hook, 'load_state_dict'):
        hook.load_state_dict(state)
    elif state['monitor'] == hook.monitor:  # of another metric there is nothing to remember
        hook.wait_count, hook.best_score = int(state['wait_count']), state['best_score']


def _is_due(runner: Any) -> bool:
    """Return whether the loop would validate at its present state before it continues."""
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    if runner.val_loop is None or done < loop.val_begin or (by_epoch and loop.iter != done * len(loop.dataloader)):
        return False
    step = bisect(loop.dynamic_milestones, loop.epoch + 1)
    return done % loop.dynamic_intervals[step - 1] == 0 or done == end
