"""Make resumed runs draw the same random numbers as uninterrupted ones."""

import logging
import os
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_dist_info, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner

from hybridcls.compat.mmengine import resumes
from hybridcls.registry import FUNCTIONS, HOOKS
from hybridcls.replay.random_state import as_tensors, get_random_state, seed_generators, set_random_state

from ..runner.numbered_batches import EndlessBatches, NumberedBatches, number_batches


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed Python, NumPy and torch in a dataloader's worker, differently in each epoch and process.

    torch has seeded the worker with a number that the main process drew when the epoch began; that number is the same
    in all processes that share a seed. So it is only mixed with the rank. (mmengine's own function does not depend on
    the epoch.) What a training reads is seeded batch by batch: :class:`RandomStateHook`.

    Args:
        worker_id (int): Given by torch, and part of its seed already.
    """
    rank = int(os.environ.get('RANK', get_rank()))
    words = np.random.SeedSequence([torch.initial_seed() % 2**63, rank]).generate_state(2, np.uint64)
    seed_generators(int(words[0]), int(words[1]))


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Resume a run at any update with the next batch and the random state that an uninterrupted run would have.

    With dropout, stochastic depth or random augmentation a resumed run then ends in the same bits as one that was not
    stopped, by epochs and by iterations, with workers and without. This makes it so:

    - The random states of all processes are in each checkpoint, gathered before the first process writes
      (``gather_for_checkpoint`` of our CheckpointHook), and restored on resume.
    - Batches of the epoch at hand that are done are skipped, unread, whatever the sampler.
    - Workers seed their generators for each batch, by the seed of the run, the process and the number of the batch. So
      what they read depends neither on how many they are nor on how long they have lived.
    - Validation leaves no trace: the state from before it is restored after it. (It also makes training independent of
      how often one validates.)

    Not exact, with a warning: a resume with another number of processes or batches an epoch, or with data that no batch
    sampler samples (the epoch begins again). Not exact, unseen: generators that transforms keep for themselves.

    Args:
        restart_workers (bool, optional): Has no effect any more, since workers keep no random state.
    """

    # After the hooks that use random numbers themselves (50 and so on), before CheckpointHook (90).
    priority = 85

    def __init__(self, restart_workers: Optional[bool] = None) -> None:
        if restart_workers is not None:
            print_log(
                'RandomStateHook: restart_workers has no effect any more, since workers keep no random state. Drop it.',
                'current',
                level=logging.WARNING,
            )
        self._gathered: Optional[dict[str, Any]] = None
        self._loaded: dict[str, Any] = {}
        self._before_validation: Optional[dict[str, Any]] = None
        self._batches: Optional[NumberedBatches] = None
        self._epoch_began: Optional[dict[str, Any]] = None  # state of this process

    def gather_for_checkpoint(self, runner: Runner) -> None:
        """Collect the random states of all processes; each process must call this."""
        sampler = _sampler_of(runner.train_dataloader)
        self._gathered = dict(
            world_size=get_dist_info()[1],
            states=all_gather_object(as_tensors(get_random_state())),
            epoch_began=all_gather_object(self._epoch_began and as_tensors(self._epoch_began)),
            batches_per_epoch=_length_of(runner.train_dataloader),
            sampler_seed=getattr(sampler, 'seed', None),
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the collected states."""
        if self._gathered is None and get_dist_info()[1] == 1:  # another CheckpointHook than ours
            self.gather_for_checkpoint(runner)
        if self._gathered is not None:
            checkpoint['random_state'] = self._gathered
            self._gathered = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep this process's state until the training begins."""
        saved = checkpoint.pop('random_state', None)
        if not resumes(runner):
            return
        rank, world_size = get_dist_info()
        if saved is None:
            runner.logger.warning(
                'RandomStateHook: the checkpoint has no random states, so this run will not draw the '
                'numbers that an uninterrupted one would have drawn.'
            )
            return
        self._loaded = dict(sampler_seed=saved.get('sampler_seed'))
        if saved['world_size'] != world_size:
            runner.logger.warning(
                f'RandomStateHook: the checkpoint is from {saved["world_size"]} processes and this run has '
                f'{world_size}: its random numbers start again, and its batches differ.'
            )
        else:
            began = saved.get('epoch_began')
            self._loaded.update(state=saved['states'][rank], epoch_began=began and began[rank])

    def before_train(self, runner: Runner) -> None:
        """Number the batches and restore the random state, when everything is built and loaded."""
        loop, loader = runner.train_loop, runner.train_dataloader
        loaded, state = self._loaded, self._loaded.get('state')
        sampler = _sampler_of(loader)
        if loaded.get('sampler_seed') is not None and hasattr(sampler, 'seed'):
            sampler.seed = loaded['sampler_seed']  # a run without a seed of its own has drawn another one
        self._batches = number_batches(loader, (runner.seed, get_rank()))
        if isinstance(loop, IterBasedTrainLoop) and self._batches is not None:
            loop.dataloader_iterator = EndlessBatches(loader, self._batches)
            if state is not None:  # when the first batch is due: what was seen is skipped, and the data opened, first
                self._batches.restore_at_next(state)
        elif state is not None:
            set_random_state(state)

    def before_train_epoch(self, runner: Runner) -> None:
        """Skip the finished batches of the epoch in which a resumed run continues."""
        loop, loader, loaded, self._loaded = runner.train_loop, runner.train_dataloader, self._loaded, {}
        if isinstance(loop, IterBasedTrainLoop):
            return
        length = _length_of(loader)
        done = runner.iter - runner.epoch * length
        if done and (self._batches is None or not 0 < done <= length):
            what = 'its data have no batch sampler' if self._batches is None else f'an epoch has {length} batches'
            runner.logger.warning(
                f'RandomStateHook: {done} batches of epoch {runner.epoch + 1} should be skipped, but {what}, so the '
                'epoch starts again.'
            )
            done = 0
        if self._batches is not None:
            self._batches.number = runner.iter - done
        if self._batches is None or not done:
            self._epoch_began = get_random_state()
            return
        if loaded.get('epoch_began') is not None:  # the order may be drawn from the state of the process
            set_random_state(loaded['epoch_began'])
        self._epoch_began = get_random_state()
        if loader.generator is None:  # torch draws a seed for workers, which there are not, before the order
            torch.empty((), dtype=torch.int64).random_()
        self._batches.skip(done)
        if 'state' in loaded:
            self._batches.restore_at_next(loaded['state'])
        runner.logger.info(f'Epoch {runner.epoch + 1} continues after {done} of {length} batches.')
        # The loop counts from 0; the log shall show which batch of the epoch it is.
        loop.run_iter = lambda idx, data_batch: type(loop).run_iter(loop, idx + done, data_batch)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save the random state before a possible validation."""
        vars(runner.train_loop).pop('run_iter', None)
        self._before_validation = get_random_state()

    def before_val(self, runner: Runner) -> None:
        """Save the random state before a validation between iterations."""
        if self._before_validation is None:
            self._before_validation = get_random_state()

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Restore the random state from before the validation, before the best checkpoint is written."""
        if self._before_validation is not None:
            set_random_state(self._before_validation)

    def after_val(self, runner: Runner) -> None:
        """Restore the random state again, after the remaining hooks of the validation."""
        self.after_val_epoch(runner)
        self._before_validation = None


def _length_of(loader: Any) -> int:
    return len(loader) if hasattr(loader, '__len__') else 0


def _sampler_of(loader: Any) -> Any:
    """Return the object that draws the order: a custom batch sampler, or the sampler inside it."""
    sampler = getattr(loader, 'sampler', None)
    return sampler if hasattr(sampler, 'seed') else getattr(getattr(loader, 'batch_sampler', None), 'sampler', None)
