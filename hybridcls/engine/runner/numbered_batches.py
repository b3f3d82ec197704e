"""Number the batches of a training, so that a resumed run skips finished ones without reading them."""

from collections.abc import Iterable, Iterator
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch.utils.data import DataLoader

from hybridcls.compat.torch import set_batch_sampler
from hybridcls.replay.random_state import seed_generators, set_random_state

__all__ = ['EndlessBatches', 'NumberedBatches', 'batches_of_a_pass', 'number_batches', 'set_sampler_epoch']


class NumberedBatch(list):
    """The indices of a batch, with the seed of the worker that reads its images."""

    def __init__(self, indices: Iterable, seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed


class NumberedBatches:
    """Wrap a batch sampler: number its batches, and start where a resumed run continues.

    Args:
        batches (Iterable): The batch sampler; all of its attributes are found here too.
        seed (tuple[int, ...]): Of the run and of this process.
    """

    def __init__(self, batches: Any, seed: tuple[int, ...]) -> None:
        self.batches = batches
        self.seed = seed
        self.number = 0  # of the next batch, counted from the beginning of the training
        self._begun: Optional[Iterator] = None
        self._state: Optional[dict[str, Any]] = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batches':  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def skip(self, count: int) -> int:
        """Start the next pass after ``count`` batches; return how many there were before the pass ended."""
        self._begun = iter(self.batches)
        done = sum(1 for _ in zip(range(count), self._begun, strict=False))
        self.number += done
        return done

    def restore_at_next(self, state: dict[str, Any]) -> None:
        """Restore a random state when the next pass starts, as opening a dataloader draws a number before that."""
        self._state = state

    def __iter__(self) -> Iterator[NumberedBatch]:
        batches, self._begun = self._begun or iter(self.batches), None
        state, self._state = self._state, None
        if state is not None:
            set_random_state(state)
        for batch in batches:
            number, self.number = self.number, self.number + 1
            yield NumberedBatch(batch, (*self.seed, number))


class SeededItems:
    """Replacement of ``dataset.__getitems__``, by which torch reads a batch; it first seeds the worker by the batch.

    A worker that lives long then carries no random state from batch to batch, which would have to be saved.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.get_items = getattr(dataset, '__getitems__', None)

    def __call__(self, indices: Any) -> list:
        if isinstance(indices, NumberedBatch):
            words = np.random.SeedSequence(indices.seed).generate_state(2, np.uint64)
            seed_generators(int(words[0]), int(words[1]))
        return self.get_items(indices) if self.get_items else [self.dataset[index] for index in indices]


class EndlessBatches:
    """Iterate over the batches of a training by iterations: repeated passes over a dataloader, as in mmengine.

    What a resumed run has seen is skipped unread, whatever the sampler and with workers too.
    """

    def __init__(self, loader: DataLoader, batches: NumberedBatches) -> None:
        self.loader = loader
        self.batches = batches
        self.epoch = 0
        self._iterator: Optional[Iterator] = None

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.loader)
        try:
            return next(self._iterator)
        except StopIteration:
            self._next_pass()
            self._iterator = iter(self.loader)
            return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Skip so many batches; ``IterBasedTrainLoop`` calls this when it is resumed."""
        while (num_iters := num_iters - self.batches.skip(num_iters)) > 0:
            self._next_pass()

    def _next_pass(self) -> None:
        self.epoch += 1
        set_sampler_epoch(self.loader, self.epoch)


def number_batches(loader: Any, seed: tuple[int, ...]) -> Optional[NumberedBatches]:
    """Number the batches of a dataloader, and seed its workers by these numbers.

    Without workers the data are read with the random state of the process, which is saved and restored as it is.

    Args:
        loader (DataLoader): Not iterated over yet.
        seed (tuple[int, ...]): Of the run and of this process.

    Returns:
        NumberedBatches or None: None without a batch sampler (an iterable dataset).
    """
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return None
    if isinstance(loader.batch_sampler, NumberedBatches):  # a second training with one Runner
        loader.batch_sampler.number = 0
        return loader.batch_sampler
    batches = NumberedBatches(loader.batch_sampler, seed)
    set_batch_sampler(loader, batches)
    if loader.num_workers > 0:
        if loader.generator is None:  # else a start of workers, which live on, draws from the state of the process
            loader.generator = torch.Generator().manual_seed(seed[0])
        vars(loader.dataset)['__getitems__'] = SeededItems(loader.dataset)
    return batches


def batches_of_a_pass(loader: DataLoader) -> int:
    """Return after how many batches of this process all processes together have seen each image once."""
    batches = len(loader)
    if isinstance(getattr(loader, 'sampler', None), InfiniteSampler):  # as long as the dataset, in each process
        batches = -(-batches // get_world_size())
    return max(1, batches)


def set_sampler_epoch(loader: DataLoader, epoch: int) -> None:
    """Set the epoch of the sampler, or of the batch sampler's sampler."""
    candidates: tuple[Any, ...] = (loader.sampler, getattr(loader.batch_sampler, 'sampler', None))
    for sampler in candidates:
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
            return
