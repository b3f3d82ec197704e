"""Batches by their number: what is skipped, what seeds a worker, passes over the data."""

import random
import sys

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from hybridcls.compat.torch import set_batch_sampler
from hybridcls.engine.runner import numbered_batches
from hybridcls.engine.runner.numbered_batches import (
    EndlessBatches,
    NumberedBatch,
    NumberedBatches,
    SeededItems,
    batches_of_a_pass,
    number_batches,
)
from hybridcls.replay.random_state import get_random_state


class Numbers(Dataset):
    """0 .. 9, each with a random number, and a note of what was read."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.read.append(index)
        return index, random.random()


class OfSampler(SequentialSampler):
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([index + 100 * self.epoch for index in range(4)])


def test_a_pass_begins_after_what_is_skipped():
    batches = NumberedBatches(BatchSampler(SequentialSampler(range(10)), 3, False), (0,))
    assert batches.skip(2) == 2
    assert [(list(batch), batch.seed) for batch in batches] == [([6, 7, 8], (0, 2)), ([9], (0, 3))]
    assert [batch.seed for batch in batches] == [(0, number) for number in (4, 5, 6, 7)], 'the next pass is whole'
    assert len(batches) == 4
    assert batches.batch_size == 3, 'attributes are those of the batch sampler'
    assert batches.skip(6) == 4, 'there are no more'


def test_the_state_is_restored_when_the_pass_begins():
    batches = NumberedBatches([[0], [1]], (0,))
    random.seed(3)
    batches.restore_at_next(get_random_state())
    expected = random.random()
    passed = iter(batches)
    random.random()
    next(passed)
    assert random.random() == expected
    next(passed)
    assert random.random() != expected, 'once'


def test_a_batch_seeds_its_reader_and_a_plain_list_does_not():
    items = SeededItems(Numbers())
    first = items(NumberedBatch([1, 2], (5, 0)))
    assert items(NumberedBatch([1, 2], (5, 0))) == first
    assert items(NumberedBatch([1, 2], (5, 1))) != first
    assert items([1, 2]) != items([1, 2])


def test_a_dataset_that_reads_whole_batches_still_does():
    dataset = Numbers()
    dataset.__getitems__ = lambda indices: [('batch', list(indices))]
    assert SeededItems(dataset)(NumberedBatch([1, 2], (5, 0))) == [('batch', [1, 2])]


@pytest.mark.parametrize('workers', [0, 2])
def test_endless_batches_skip_passes_unread(workers):
    dataset = Numbers()
    loader = DataLoader(dataset, batch_sampler=BatchSampler(OfSampler(dataset), 2, False), num_workers=workers)
    endless = EndlessBatches(loader, number_batches(loader, (0, 0)))
    endless.skip_iter(5)  # two passes of two, and one batch
    assert [next(endless)[0].tolist() for _ in range(3)] == [[202, 203], [300, 301], [302, 303]]
    assert dataset.read == ([202, 203, 300, 301, 302, 303] if workers == 0 else [])


def test_data_without_a_batch_sampler_are_left_alone():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    assert number_batches(DataLoader(Stream(), batch_size=None), (0, 0)) is None


def test_a_loader_that_has_workers_keeps_its_batches():
    loader = DataLoader(Numbers(), batch_size=2, num_workers=1, persistent_workers=True)
    next(iter(loader))
    with pytest.raises(RuntimeError, match='expected a dataloader without an iterator'):
        set_batch_sampler(loader, [])
    loader._iterator = None


def test_numbers_of_torch_are_untouched_by_a_start_of_workers():
    loader = DataLoader(Numbers(), batch_size=5, num_workers=1)
    number_batches(loader, (0, 0))
    before = torch.get_rng_state()
    assert len(list(loader)) == 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('kind', [DefaultSampler, InfiniteSampler])
def test_a_pass_is_over_the_images_of_all_processes(monkeypatch, kind):
    """Of four processes each reads a fourth of the 10 images in a pass: a batch of two and one image more."""
    monkeypatch.setattr(sys.modules['mmengine.dataset.sampler'], 'get_dist_info', lambda: (0, 4))
    monkeypatch.setattr(numbered_batches, 'get_world_size', lambda: 4)
    numbers = Numbers()
    assert batches_of_a_pass(DataLoader(numbers, batch_size=2, sampler=kind(numbers))) == 2
