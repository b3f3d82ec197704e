"""Save a checkpoint and end a training on a signal, so that it can be resumed."""

import signal
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.functional.full_precision import WITHOUT_FLOAT64
from hybridcls.registry import HOOKS

from ..runner.signals import EXIT_REQUEUE, Preempted, SignalFlag, shield_workers
from ..runner.workers import end_workers
from .checkpoint_hook import CheckpointHook
from .random_state_hook import RandomStateHook
from .slow_weights_hook import SlowWeightsHook

_SIGNALS = ('SIGTERM', 'SIGUSR1', 'SIGINT')
_FIRST_PROCESS_LAST = 5.0  # seconds


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM, SIGUSR1 or SIGINT (Ctrl-C), save after the current update and end.

    All processes save at the same iteration, whichever of them got the signal, and the same command with ``--resume``
    (a chain of phases: the same command) goes on to the bits of a run that was not stopped. Within an accumulation the
    update is finished first. During a validation what is saved is the state before it; the run that goes on validates.
    The status asks for a requeue; after SIGINT what ends the training is a ``KeyboardInterrupt`` instead, as without
    this hook. A second signal, 5 seconds or more after the first, ends at once. After the training the signals mean
    what they meant before.

    The checkpoint is written by hybridcls' CheckpointHook (``iter_N.pth``, named in ``last_checkpoint``, replaced by
    the next regular one). Without that hook, and outside of the main thread, signals do what they did.

    Args:
        signals (Sequence[str]): Which ones. Defaults to ``('SIGTERM', 'SIGUSR1', 'SIGINT')``.
        exit_status (int): Of the process, in 1 .. 255 (under Slurm that of the first of several, 0 of the others).
            Defaults to 75, ``EX_TEMPFAIL`` of sysexits: "try again later".
    """

    priority = 'LOWEST'  # after everything else that belongs to an update

    def __init__(self, signals: Sequence[str] = _SIGNALS, exit_status: int = EXIT_REQUEUE) -> None:
        for name in signals:
            check_choice('PreemptionHook', 'signals', name, (*_SIGNALS, 'SIGUSR2', 'SIGHUP', 'SIGXCPU'))
        check_number('PreemptionHook', 'exit_status', exit_status, 1, 255, integer=True)
        self.exit_status = exit_status
        self.flag = SignalFlag(signals)
        self._checkpoints: Optional[CheckpointHook] = None  # set while this hook has the signals
        self._ends = False  # agreed
        self._group: Any = None
        self._asked: Optional[tuple[Any, Tensor]] = None  # the last question to all processes, and its answer
        self._shortest = 0  # batches of the process that validates fewest
        self._before_validation: Optional[Tensor] = None

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        self._checkpoints = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if self._checkpoints is None or not self.flag.install():
            self._checkpoints = None
            return
        if get_world_size() > 1:
            self._group = dist.new_group(backend='gloo')  # a flag on the CPU, whatever the training uses
        for loop in (runner.train_loop, runner.val_loop):
            if isinstance(loop, BaseLoop):
                shield_workers(loop.dataloader, self.flag.numbers)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End here if an update is complete and any process received a signal."""
        if self._checkpoints is not None and self._agree() and _is_between_updates(runner.optim_wrapper):
            self._end(runner, runner.epoch, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Prepare to end within a validation."""
        if self._checkpoints is None:
            return
        shortest = torch.tensor(len(runner.val_dataloader))
        if self._group is not None:
            dist.all_reduce(shortest, dist.ReduceOp.MIN, self._group)
        self._shortest = int(shortest)
        self._before_validation = _fingerprint(runner.model)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End here, with the state from before the validation."""
        if self._checkpoints is None or batch_idx >= self._shortest or not self._agree():
            return
        for hook in runner.hooks:  # the weights that are evaluated may be others than those that are trained
            if isinstance(hook, RandomStateHook):
                hook.after_val_epoch(runner)
            elif isinstance(hook, (EMAHook, SlowWeightsHook)) and not self._has_weights_of_training(runner):
                # mmpretrain's EMAHook would begin another validation
                (EMAHook if isinstance(hook, EMAHook) else SlowWeightsHook).after_val_epoch(hook, runner)
        self._end(runner, runner.epoch, runner.iter, save=self._has_weights_of_training(runner))

    def after_train(self, runner: Runner) -> None:
        """Restore the signal handlers."""
        self._leave_group()
        self.release()

    def release(self) -> None:
        """Restore the signal handlers, also when the training fails; then no process waits for the others."""
        self.flag.restore()
        self._checkpoints = self._group = self._asked = None

    def _leave_group(self) -> None:
        if self._asked is not None:
            self._asked[0].wait()
        if self._group is not None:
            dist.destroy_process_group(self._group)

    def _agree(self) -> bool:
        """Return whether any process received a signal: the same answer in all of them, one call later.

        The answer to a question is waited for when the next is asked, so that no process stands still meanwhile.
        """
        if self._group is None:
            self._ends = self.flag.received is not None
            return self._ends
        if self._asked is not None:
            self._asked[0].wait()
            self._ends = bool(self._asked[1])
        mine = torch.tensor(int(self._ends or self.flag.received is not None))
        self._asked = dist.all_reduce(mine, dist.ReduceOp.MAX, self._group, async_op=True), mine
        return self._ends

    def _has_weights_of_training(self, runner: Runner) -> bool:
        return self._before_validation is not None and torch.equal(self._before_validation, _fingerprint(runner.model))

    def _end(self, runner: Runner, epoch: int, iteration: int, save: bool = True) -> None:
        name = self.flag.received.name if self.flag.received is not None else 'A signal in another process'
        if save and self._checkpoints is not None:
            path = self._checkpoints.save_now(runner, epoch, iteration)
            what = f'saved {path}'
        else:  # a hook that we do not know evaluates other weights
            what = 'the weights before this validation are not available, so the last checkpoint is the one before it'
        by_hand = self.flag.received is signal.SIGINT
        end = 'the training stops' if by_hand else f'the training ends with status {self.exit_status}'
        runner.logger.warning(f'{name}: {what}; {end}. Type the same command with --resume to continue.')
        status, launcher = self.exit_status, runner.launcher
        if self._group is not None:  # whoever ends first lets the launcher end the others: not before all is written
            dist.barrier(self._group)
        self._leave_group()
        self.release()
        end_workers(runner)
        if by_hand:
            raise KeyboardInterrupt
        if launcher == 'slurm' and get_world_size() > 1:
            # srun ends all at the first bad status, and reports the worst: the first process, the last, speaks for all.
            status = status if get_rank() == 0 else 0
            time.sleep(_FIRST_PROCESS_LAST if status else 0)
        raise Preempted(status)


def _is_between_updates(optim_wrapper: Any) -> bool:
    wrappers = optim_wrapper.values() if hasattr(optim_wrapper, 'values') else [optim_wrapper]
    return all(wrapper.should_update() for wrapper in wrappers if hasattr(wrapper, 'should_update'))


def _fingerprint(model: Any) -> Tensor:
    """Return one number per tensor of the model; for sharded tensors, of this process's part."""
    tensors = [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]
    parts = [tensor.to_local() if hasattr(tensor, 'to_local') else tensor for tensor in tensors]
    return torch.stack([part.to(_widest(part.device)).sum() for part in parts]).nan_to_num().cpu()


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64
