"""Runs that are stopped and resumed draw the same random numbers as runs that were not."""

import os
import random
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_dist_info, get_rank
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from hybridcls.registry import FUNCTIONS, HOOKS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed Python, NumPy and torch in a worker of a dataloader: anew in each epoch, and differently in each process.

    torch has seeded the worker with a number that the main process drew when the epoch began; that number comes from
    the state that :class:`RandomStateHook` saves, and is the same in all processes that share a seed. So it is only
    mixed with the rank. (mmengine's own function depends on neither epoch nor state.)

    Args:
        worker_id (int): Given by torch, and part of its seed already.
    """
    rank = int(os.environ.get('RANK', get_rank()))
    words = np.random.SeedSequence([torch.initial_seed() % 2**63, rank]).generate_state(2, np.uint64)
    random.seed(int(words[0]))
    torch.manual_seed(int(words[0]) % 2**63)
    np.random.seed(int(words[1] % 2**32))  # noqa: NPY002  (the generator that transforms draw from)


def get_random_state() -> dict[str, Any]:
    """Return the state of the generators of this process: Python, NumPy, torch on the CPU and on its CUDA device."""
    version, keys, gauss = random.getstate()
    name, words, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    # Tensors and plain numbers only, so that the checkpoint stays readable by torch.load(weights_only=True).
    state: dict[str, Any] = dict(
        python=(version, torch.tensor(keys, dtype=torch.int64), gauss),
        numpy=(name, torch.from_numpy(np.asarray(words, np.int64)), int(position), int(has_gauss), float(cached)),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to a state from :func:`get_random_state`."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys.tolist()), gauss))
    name, words, position, has_gauss, cached = state['numpy']
    words = words.cpu().numpy().astype(np.uint32)
    np.random.set_state((name, words, position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


class _RestoreBeforeNext:
    """An iterator over endless data that restores the random state when the first batch after a resume is due."""

    def __init__(self, iterator: Any, state: dict[str, Any]) -> None:
        self._iterator = iterator
        self._state: Optional[dict[str, Any]] = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __iter__(self) -> '_RestoreBeforeNext':
        return self

    def __next__(self) -> Any:
        if self._state is not None:
            # Opening the data draws a number, which the run that was not stopped drew long ago: do it before.
            getattr(self._iterator, '_ensure_iterator', lambda: None)()
            set_random_state(self._state)
            self._state = None
        return next(self._iterator)


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Save the random state of every process in each checkpoint, and restore it on resume.

    With dropout, stochastic depth or random augmentation a resumed run then ends in the same bits as one that was not
    stopped. Three things beside saving make it so:

    - Validation leaves no trace: the state from before it comes back after it. Otherwise a run that resumes at the
      end of an epoch, and does not validate that epoch again, would go another way. (It also makes training
      independent of how often one validates.)
    - Workers that live for several epochs carry random states which nobody else can see. They are ended after an
      epoch that saved a checkpoint, and start anew, seeded by :func:`seed_worker`, as they would after a resume.
    - The states are gathered before the first process writes (``gather_for_checkpoint`` of our CheckpointHook).

    Exact for training by epochs, with and without workers, and for training by iterations without workers; there,
    with workers, the data come in the same order, but with other random augmentations.

    Args:
        restart_workers (bool): End long-lived workers after an epoch that saved a checkpoint. False saves their
            starting time, and gives up equal bits after a resume. Defaults to True.
    """

    # After the hooks that use random numbers themselves (50 and so on), before CheckpointHook (90).
    priority = 85

    def __init__(self, restart_workers: bool = True) -> None:
        self.restart_workers = restart_workers
        self._gathered: Optional[dict[str, Any]] = None
        self._loaded: Optional[dict[str, Any]] = None
        self._before_validation: Optional[dict[str, Any]] = None
        self._saved_since_epoch_began = False

    def gather_for_checkpoint(self, runner) -> None:
        """Collect the states of all processes; each process must come here."""
        own = get_random_state()
        self._gathered = dict(world_size=get_dist_info()[1], states=all_gather_object(own))
        self._saved_since_epoch_began = True

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the collected states."""
        if self._gathered is None and get_dist_info()[1] == 1:  # another CheckpointHook than ours
            self.gather_for_checkpoint(runner)
        if self._gathered is not None:
            checkpoint['random_state'] = self._gathered
            self._gathered = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the state of this process for the moment when training begins."""
        saved = checkpoint.pop('random_state', None)
        if not runner._resume:
            return
        rank, world_size = get_dist_info()
        if saved is None:
            runner.logger.warning(
                'RandomStateHook: the checkpoint has no random states, so this run will not draw the '
                'numbers that an uninterrupted one would have drawn.'
            )
        elif saved['world_size'] != world_size:
            runner.logger.warning(
                f'RandomStateHook: the checkpoint is from {saved["world_size"]} processes and this '
                f'run has {world_size}: its random numbers start anew.'
            )
        else:
            self._loaded = saved['states'][rank]

    def before_train(self, runner) -> None:
        """Restore, when everything is built and loaded."""
        if self._loaded is None:
            return
        state, self._loaded = self._loaded, None
        if hasattr(runner.train_loop, 'dataloader_iterator'):  # by iterations: data that were seen are skipped first
            runner.train_loop.dataloader_iterator = _RestoreBeforeNext(runner.train_loop.dataloader_iterator, state)
        else:
            set_random_state(state)

    def before_train_epoch(self, runner) -> None:
        """Start long-lived workers anew if the last epoch saved a checkpoint."""
        loader = runner.train_dataloader
        if (
            self._saved_since_epoch_began
            and self.restart_workers
            and isinstance(loader, DataLoader)
            and loader.persistent_workers
        ):
            loader._iterator = None
        self._saved_since_epoch_began = False

    def after_train_epoch(self, runner) -> None:
        """Remember the state before a validation may follow."""
        self._before_validation = get_random_state()

    def before_val(self, runner) -> None:
        """The same where validation comes between iterations."""
        if self._before_validation is None:
            self._before_validation = get_random_state()

    def after_val_epoch(self, runner, metrics: Optional[dict] = None) -> None:
        """Forget what the validation drew, before the best checkpoint is written."""
        if self._before_validation is not None:
            set_random_state(self._before_validation)

    def after_val(self, runner) -> None:
        """And what was drawn around it."""
        self.after_val_epoch(runner)
        self._before_validation = None
