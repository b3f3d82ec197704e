"""Write checkpoints atomically, and remove old ones only afterwards."""

import math
import os
from functools import partial
from typing import Any, Optional, Union

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.runner import Runner

from hybridcls.checks import check_known_keys, check_number
from hybridcls.compat.mmengine import loaded_from, resume_from, resumes
from hybridcls.compat.mmengine.writing_checkpoint_hook import WritingCheckpointHook
from hybridcls.evaluation.result_names import unit_of
from hybridcls.plain_content import to_plain
from hybridcls.registry import HOOKS
from hybridcls.renames import keeps_old_spellings
from hybridcls.signatures import arguments_of, bound_arguments

from ..checkpoints.files import atomic_write, latest_valid_checkpoint, remove_unfinished
from ..runner.monitored_metric import check_monitor, guessed_rule, monitored_result, rule_for, validation_metrics

STANDARD_ERROR = 'standard_error'
_SAVE_BEST = 'CheckpointHook: save_best'


class _LaterRemovals:
    """A file backend that delays removals until the new files are written, and stays within one folder."""

    def __init__(self, backend: Any, folder: str) -> None:
        self._backend = backend
        self._folder = folder
        self._waiting: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._waiting.append(('remove', str(path)))

    def rmtree(self, path: str) -> None:
        self._waiting.append(('rmtree', str(path)))

    def remove_now(self, keep: set[str]) -> None:
        """Carry out the delayed removals, except for files in ``keep``, which may have been written again since."""
        waiting, self._waiting = self._waiting, []
        for action, path in waiting:
            if path not in keep and _is_in(path, self._folder) and self._backend.exists(path):
                getattr(self._backend, action)(path)


@HOOKS.register_module()
@keeps_old_spellings
class CheckpointHook(WritingCheckpointHook):
    """mmengine's CheckpointHook, with all of its options, for machines that may stop at any time.

    - A checkpoint, and the note ``last_checkpoint``, are written atomically.
    - An old one is removed only when the new one is complete. mmengine removes first: with ``max_keep_ckpts=1`` a
      kill in that moment leaves nothing, and the same holds for the best checkpoint.
    - Nothing outside the folder of the checkpoints is removed. A run that resumes from another run's checkpoint keeps
      the best score, but neither claims nor rotates that run's files.
    - A resume that finds the last checkpoint damaged or gone takes the newest valid one, with a warning.
    - It holds tensors, numbers, strings, lists and dicts only, so that ``torch.load(weights_only=True)`` reads it: the
      histories of the message hub are taken apart, and put together by the one reader of checkpoints. Of the message
      hub and of ``meta``, what has no such form is left out, with a warning; elsewhere it is an error.
    - Just before a checkpoint that can be resumed is written, all processes are called at ``gather_for_checkpoint``:
      hooks that must save something of each process collect it there, since only the first process writes. Before
      the best checkpoint, which holds weights alone, it is ``gather_weights_for_checkpoint``, and afterwards,
      written or not, ``release_after_checkpoint``.
    - ``save_best`` takes any result of the validation (``'calibration/ece'``) without ``rule``: its metric says which
      way is better. A name that no metric gives is an error before the first step, or at the first validation.
      A metric that had nothing to compute is a warning: there is no best checkpoint then.

    - With ``best_tolerance`` the best checkpoint is the *latest* one that is about as good as the best score so far: a
      validation of a hundred images is noise of some percent, among which the maximum means little, and the end of a
      schedule is worth more than its beginning.

    For remote storage (``backend_args``, or an ``out_dir`` with a prefix such as ``s3://``) its own backend writes;
    the order of removals holds there too.

    Args:
        *args: As in mmengine.
        **kwargs: As in mmengine.
        best_tolerance (float | str, optional): How much worse than the best score so far the best checkpoint may be, in
            the metric's unit, if it is later; 0 lets the later of two equal ones win. ``'standard_error'``, of scores
            in percent: that of a share of as many images as the validation has, :math:`100 \\sqrt{p (1 - p) / n}`.
            Defaults to None: the first one with the best score, as in mmengine.
    """

    backend_args: Any
    file_backend: Any
    key_indicators: list[str]
    last_ckpt: Any
    _saved_at: Any = None  # epochs and iterations that were done
    _is_saving_best = False
    _again: Any = None  # step and meta
    _written: Any = None  # the same, of the last regular checkpoint

    def __init__(self, *args: Any, best_tolerance: Union[float, str, None] = None, **kwargs: Any) -> None:
        if best_tolerance is not None and best_tolerance != STANDARD_ERROR:
            check_number(
                'CheckpointHook', 'best_tolerance', best_tolerance, 0, advice=f"Or '{STANDARD_ERROR}', or None."
            )
        self.best_tolerance = best_tolerance
        given = bound_arguments(WritingCheckpointHook, args, kwargs)
        keys = given.get('save_best') or []
        keys = [keys] if isinstance(keys, str) else keys
        said = given.get('rule') is not None or 'greater_keys' in given or 'less_keys' in given
        self._rules_are_open = bool(keys) and not said
        if self._rules_are_open and keys != ['auto']:  # the metrics are asked before the training
            given['rule'] = [guessed_rule(key) or 'greater' for key in keys]
        super().__init__(**given)
        # What mmengine's hook does not take it hands to the Runner, after the first epoch.
        check_known_keys('CheckpointHook', self.args, [*arguments_of(WritingCheckpointHook)[0], 'meta'])

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from, if the config leaves the choice open."""
        if not resumes(runner) or loaded_from(runner) is not None:
            return
        found = [latest_valid_checkpoint(runner.work_dir) if is_main_process() else None]
        broadcast_object_list(found)
        resume_from(runner, found[0])  # mmengine would look for itself, and end at the damaged one

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder of the checkpoints, and fill the rules of ``save_best`` that the config leaves open."""
        if self.save_best and self.save_best != ['auto'] and runner.val_loop is not None:
            for position, key in enumerate(self.key_indicators):
                check_monitor(_SAVE_BEST, key, runner)
                if self._rules_are_open:
                    self._set_rule(position, rule_for(_SAVE_BEST, key, runner))
                unit = unit_of(key, validation_metrics(runner))
                if self.best_tolerance == STANDARD_ERROR and unit != '%':
                    raise ValueError(
                        f"CheckpointHook: best_tolerance='{STANDARD_ERROR}' needs a metric that is a share in "
                        f'percent, got save_best={key!r}, whose unit is {unit or "not declared"}. Give a number '
                        'instead.'
                    )
        out_dir = str(self.out_dir or runner.work_dir)
        if self.file_client_args is None and self.backend_args is None and '://' not in out_dir:
            self.backend_args = dict(backend='hybridcls_atomic')
        if resumes(runner):
            self._leave_other_folders(runner, _folder_of_run(out_dir, str(runner.work_dir)))
        super().before_train(runner)
        self.file_backend = _LaterRemovals(self.file_backend, self.out_dir)
        if is_main_process() and os.path.isdir(self.out_dir):
            remove_unfinished(self.out_dir)
            outdated = runner.message_hub.runtime_info.get('outdated_ckpt_ids', [])
            self._remove_files([self.filename_tmpl.format(step) for step in outdated])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Convert everything that this and other hooks save to plain types."""

        def warn(path: str, value: Any) -> None:
            runner.logger.warning(f'CheckpointHook: {path} is a {type(value).__name__} and is not in the checkpoint.')

        for key, value in checkpoint.items():
            checkpoint[key] = to_plain(value, key, warn if key in ('meta', 'message_hub') else None)

    def write_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write the checkpoint of ``step``; only then record it as the last one and remove surplus ones."""
        if self._is_saving_best:  # again, with the best score: when all hooks have seen this validation
            self._again = step, meta
            return
        self._written = step, meta
        name_of = self.filename_tmpl.format
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            kept = [number for number in self.keep_ckpt_ids if number != step] + [step]
            outdated, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        # A kill before the removals leaves these files; the run that resumes removes them.
        runner.message_hub.update_info('outdated_ckpt_ids', outdated)
        preempted = runner.message_hub.runtime_info.get('preempted_ckpt')
        runner.message_hub.update_info('preempted_ckpt', None)
        self._write(runner, name_of(step), meta, self.save_optimizer)
        self._remove_files([*map(name_of, outdated), *([preempted] if preempted else [])])

    def write_again(self, runner: Runner) -> None:
        """Request to write the last checkpoint again at the end of this validation, as the model has changed."""
        if self._written is not None and self._saved_at == (runner.epoch, runner.iter):
            self._again = self._written

    def save_now(self, runner: Runner, epoch: int, iteration: int) -> str:
        """Write a checkpoint from which an interrupted run can resume; all processes must call this.

        It counts among those that are kept as little as the best one does, and goes with the next regular one.

        Args:
            runner (Runner): Whose state.
            epoch (int): Epochs that are done.
            iteration (int): Iterations that are done.

        Returns:
            str: Its path, ``iter_{iteration}.pth``, or that of a checkpoint that has just been written of this state.
        """
        if self._saved_at != (epoch, iteration):
            name = f'iter_{iteration}.pth'
            before = runner.message_hub.runtime_info.get('preempted_ckpt')
            runner.message_hub.update_info('preempted_ckpt', name)
            self._write(runner, name, dict(epoch=epoch, iter=iteration), save_optimizer=True)
            self._remove_files([before] if before not in (None, name) else [])
        return str(self.last_ckpt)

    def _write(self, runner: Runner, name: str, meta: dict, save_optimizer: bool) -> None:
        """Write a checkpoint that can be resumed, and record it as the last one."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._saved_at = meta['epoch'], meta['iter']
        if hasattr(runner.optim_wrapper, 'gather_for_checkpoint'):  # our wrapper: half-accumulated gradients
            runner.optim_wrapper.gather_for_checkpoint()  # first, since hooks look at its state
        runner.call_hook('gather_for_checkpoint')
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=save_optimizer,
            save_param_scheduler=runner.param_schedulers is not None and (self.save_param_scheduler or save_optimizer),
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            atomic_write(str(self.last_ckpt).encode(), os.path.join(runner.work_dir, 'last_checkpoint'))

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Save the best checkpoint, if there is a new best; log why not if the metric had nothing to compute."""
        metrics = dict(metrics or {})
        if self.save_best:
            if self.key_indicators == ['auto'] and metrics:
                self.key_indicators = [next(iter(metrics))]
                self._set_rule(0, self.rules[0] or rule_for(_SAVE_BEST, self.key_indicators[0], runner))
            found = [monitored_result(_SAVE_BEST, key, runner, metrics) for key in self.key_indicators]
            metrics.update(zip(self.key_indicators, (result for result, _ in found), strict=True))
            runner.message_hub.update_info('no_best_checkpoint', ' '.join(filter(None, (why for _, why in found))))
            if self.best_tolerance is not None:
                self.is_better_than = {key: partial(self._is_as_good, runner, key) for key in self.key_indicators}
        if self.save_best and metrics:
            runner.call_hook('gather_weights_for_checkpoint')
        self._is_saving_best = True
        try:
            super().after_val_epoch(runner, metrics)
        finally:
            self._is_saving_best = False
        if metrics:
            runner.call_hook('release_after_checkpoint')
            self._remove_files([])  # the best one that this one replaces

    def _is_as_good(self, runner: Runner, key: str, score: float, _: float) -> bool:
        """Return whether a score is within the tolerance of the best one so far, which may be its own."""
        is_better = self.rule_map[self.rules[self.key_indicators.index(key)]]
        best = runner.message_hub.runtime_info.get(f'best_of_all/{key}')
        if best is None or is_better(score, best):
            runner.message_hub.update_info(f'best_of_all/{key}', best := float(score))
        tolerance: Any = self.best_tolerance
        if tolerance == STANDARD_ERROR:
            share = min(max(best / 100, 0.0), 1.0)
            tolerance = 100 * math.sqrt(share * (1 - share) / len(runner.val_dataloader.dataset))
        return not is_better(best, score + tolerance if is_better(1, 0) else score - tolerance)

    def _set_rule(self, position: int, rule: str) -> None:
        key = self.key_indicators[position]
        self.rules[position], self.is_better_than[key] = rule, self.rule_map[rule]

    def after_val(self, runner: Runner) -> None:
        """Write the last checkpoint again if it does not contain the best score yet."""
        again, self._again = self._again, None
        if again is not None:
            self.write_step(runner, *again)

    def _leave_other_folders(self, runner: Runner, folder: str) -> None:
        """Correct file paths in a resumed checkpoint: moved folders are updated, files of another run are ignored."""
        hub, ours = runner.message_hub, _is_in(str(loaded_from(runner)), folder)
        for key in [key for key in hub.runtime_info if key == 'last_ckpt' or key.startswith('best_ckpt')]:
            path = hub.get_info(key)
            if path is None or _is_in(path, folder):
                continue
            moved = os.path.join(folder, os.path.basename(path))
            if ours and os.path.exists(moved):
                hub.update_info(key, moved)
                continue
            hub.update_info(key, None)
            if key != 'last_ckpt' and is_main_process():
                runner.logger.warning(
                    f'CheckpointHook: the best checkpoint so far, {path}, is in another work dir, and is not changed. '
                    'Its score is kept: the next best checkpoint must be better.'
                )
        if not ours:
            hub.update_info_dict(dict(keep_ckpt_ids=[], outdated_ckpt_ids=[], preempted_ckpt=None))

    def _remove_files(self, names: list[str]) -> None:
        """Remove checkpoints of this folder, and delayed removals, but no file that is in use."""
        if not is_main_process():
            return
        for name in names:
            path = self.file_backend.join_path(self.out_dir, name)
            if self.file_backend.isdir(path):  # DeepSpeed's checkpoints are folders
                self.file_backend.rmtree(path)
            else:
                self.file_backend.remove(path)
        self.file_backend.remove_now(self._in_use())

    def _in_use(self) -> set[str]:
        """Return the paths that must stay: the last checkpoint, kept ones and the best."""
        steps = getattr(self, 'keep_ckpt_ids', ()) if self.max_keep_ckpts > 0 else ()
        used = {self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step)) for step in steps}
        best = getattr(self, 'best_ckpt_path_dict', None) or {'best': getattr(self, 'best_ckpt_path', None)}
        used.update(best.values())
        used.add(self.last_ckpt)
        return {str(path) for path in used if path}


def _folder_of_run(out_dir: str, work_dir: str) -> str:
    """Return mmengine's folder of checkpoints: named after the work dir, below ``out_dir``."""
    return out_dir if out_dir == work_dir else os.path.join(out_dir, os.path.basename(work_dir.rstrip(os.sep)))


def _is_in(path: str, folder: str) -> bool:
    """Return whether a file lies directly in this folder, symbolic links resolved."""
    here = os.path.dirname(path)
    if '://' in path or '://' in folder:
        return here.rstrip('/') == folder.rstrip('/')
    return os.path.realpath(here) == os.path.realpath(folder)
