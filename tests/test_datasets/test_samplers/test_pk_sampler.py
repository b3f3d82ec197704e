"""PKSampler: P classes with K images in each batch and process, counted over epochs, and resumed runs."""

import contextlib
import itertools
from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from processes import run_processes

from hybridcls.datasets.samplers import PKSampler, pk_sampler
from hybridcls.engine.config import apply
from hybridcls.engine.config.dataloaders import dataloaders
from hybridcls.registry import DATASETS, MODELS


class Labelled:
    """A dataset that is nothing but its labels."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def __len__(self):
        return len(self.labels)

    def get_gt_labels(self):
        return self.labels


def build(labels, batch_size, images_per_class, rank=0, world_size=1, seed=0, epoch=0, **keys):
    with mock.patch.object(pk_sampler, 'get_dist_info', return_value=(rank, world_size)):
        sampler = DefaultSampler(Labelled(labels), seed=seed)
        batches = PKSampler(sampler, batch_size=batch_size, images_per_class=images_per_class, **keys)
    batches.set_epoch(epoch)
    return batches


def labels_of_sizes(*sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def counts_of(batches, number):
    return np.bincount(np.concatenate(list(batches)), minlength=number)


SIZES = {
    'equal': (12, 12, 12, 12, 12, 12),
    'unequal': (3, 30, 7, 12, 9, 21),
    'small': (1, 2, 1, 3, 2, 9),  # fewer than K images in most
    'dominant': (40, 4, 4, 4),
    'many': tuple([2] * 60),
}


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_each_batch_of_each_process_has_p_classes_of_k_images(sizes, world_size):
    labels = labels_of_sizes(*sizes)
    steps = list(zip(*(build(labels, 8, 4, rank, world_size) for rank in range(world_size)), strict=True))
    assert len(steps) == len(build(labels, 8, 4, 0, world_size))
    for step in steps:
        for batch in step:
            assert sorted(Counter(labels[batch]).values()) == [4, 4]
            for label in set(labels[batch]):  # repeated only if the class is too small
                own = [image for image in batch if labels[image] == label]
                assert len(set(own)) == min(4, sizes[label])
        if 2 * world_size <= len(sizes):
            assert max(Counter(label for batch in step for label in set(labels[batch])).values()) == 1
        everything = list(itertools.chain(*step))
        for label, number in Counter(labels[everything]).items():  # processes that share a class share no image
            own = {image for image in everything if labels[image] == label}
            assert len(own) == min(number, sizes[label])


@pytest.mark.parametrize('sizes', SIZES.values(), ids=SIZES)
@pytest.mark.parametrize('world_size', [1, 2])
def test_epoch_draws_every_image_as_evenly_as_possible(sizes, world_size):
    labels = labels_of_sizes(*sizes)
    total = sum(counts_of(build(labels, 8, 4, rank, world_size), len(labels)) for rank in range(world_size))
    assert total.min() >= 1
    for label in range(len(sizes)):
        own = total[labels == label]
        assert own.max() - own.min() <= 1


def test_each_image_once_if_the_numbers_divide():
    labels = np.random.default_rng(0).permutation(labels_of_sizes(*[8] * 6))
    batches = build(labels, 8, 4)
    assert len(batches) == 6
    assert (counts_of(batches, 48) == 1).all()


def test_epoch_has_no_extra_batches():
    """The groups of all classes, or those of the largest, which can have one of the P places only."""
    assert len(build(labels_of_sizes(12, 12, 12, 12, 12, 12), 8, 4)) == 9
    assert len(build(labels_of_sizes(40, 4, 4, 4), 8, 4)) == 10
    assert len(build(labels_of_sizes(40, 4, 4, 4), 8, 4, world_size=2)) == 10
    assert len(build(labels_of_sizes(40, 40), 8, 4, world_size=4)) == 3  # four places a class, ceil(10 / 4)


def test_repeated_classes_are_proportional_to_their_sizes():
    sizes = (400, 40, 80, 120)  # the largest needs 100 batches; the others fill the other place of each
    counts = counts_of(build(labels_of_sizes(*sizes), 8, 4), sum(sizes))
    groups = [counts[labels_of_sizes(*sizes) == label].sum() / 4 for label in range(4)]
    assert groups[0] == 100
    assert sum(groups) == 200
    np.testing.assert_allclose(groups[1:], [100 / 6, 200 / 6, 300 / 6], atol=1)


def test_order_depends_only_on_seed_and_epoch():
    labels = labels_of_sizes(*SIZES['unequal'])
    first = list(build(labels, 8, 4, seed=3, epoch=2))
    assert list(build(labels, 8, 4, seed=3, epoch=2)) == first
    again = build(labels, 8, 4, seed=3, epoch=2)
    assert list(again) == list(again) == first  # a second pass without set_epoch
    assert list(build(labels, 8, 4, seed=3, epoch=1)) != first
    assert list(build(labels, 8, 4, seed=4, epoch=2)) != first
    later = build(labels, 8, 4, seed=3)
    list(later)
    later.set_epoch(2)
    assert list(later) == first


def test_all_orders_occur():
    """Pairs of classes meet at random: with 6 equal classes each of the 15 pairs has the same chance."""
    labels, pairs = labels_of_sizes(*[4] * 6), Counter()
    for epoch in range(300):
        pairs.update(tuple(sorted(set(labels[batch]))) for batch in build(labels, 8, 4, epoch=epoch))
    assert len(pairs) == 15
    expected = 300 * 3 / 15
    assert all(abs(number - expected) < 5 * expected**0.5 for number in pairs.values())


def test_skip_continues_an_interrupted_epoch():
    labels = labels_of_sizes(*SIZES['unequal'])
    whole = list(build(labels, 8, 4))
    resumed = build(labels, 8, 4)
    resumed.skip(5)
    assert list(resumed) == whole[5:]
    assert list(resumed) == whole  # the next epoch is whole
    with pytest.raises(ValueError, match=r'expected num_batches in .*, got 99'):
        resumed.skip(99)


def test_shortened_epochs_drop_different_images():
    labels = labels_of_sizes(40, 8, 8, 8)
    seen = set()
    for epoch in range(30):
        batches = build(labels, 8, 4, epoch=epoch, batches_per_epoch=3)
        drawn = list(batches)
        assert len(drawn) == len(batches) == 3
        assert all(sorted(Counter(labels[batch]).values()) == [4, 4] for batch in drawn)
        seen |= set(itertools.chain(*drawn))
    assert len(seen) == 64
    assert len(list(build(labels, 8, 4, batches_per_epoch=50))) == 50


def test_class_numbers_with_gaps():
    labels = np.array([5, 5, 900, 900, 17, 17])
    assert {frozenset(labels[batch]) for batch in build(labels, 6, 2)} == {frozenset([5, 900, 17])}


def test_speed_with_many_classes():
    labels = np.repeat(np.arange(100_000), 2)
    batches = iter(build(labels, 256, 2))
    drawn = [next(batches) for _ in range(20)]
    assert all(len(set(labels[batch])) == 128 for batch in drawn)


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (
            dict(batch_size=10, images_per_class=4),
            ValueError,
            'expected batch_size=8 for 2 classes with images_per_class=4, got batch_size=10',
        ),
        (
            dict(batch_size=8, images_per_class=4, classes_per_batch=3),
            ValueError,
            'expected batch_size=12 for 3 classes',
        ),
        (dict(batch_size=4, images_per_class=8), ValueError, r'got 0\..*batch_size=4 divided by'),
        (dict(batch_size=8, images_per_class=0), ValueError, r'expected images_per_class in .* got 0'),
        (
            dict(batch_size=8, images_per_class=2),
            ValueError,
            'needs 4 classes, but the dataset has 3. Use at least images_per_class=3 or a smaller batch_size',
        ),
        (
            dict(batch_size=8, images_per_class=4, batches_per_epoch=0),
            ValueError,
            r'expected batches_per_epoch in .* got 0',
        ),
    ],
)
def test_invalid_numbers_are_errors(keys, error, message):
    with pytest.raises(error, match=message):
        build(labels_of_sizes(4, 4, 4), **keys)


def test_invalid_samplers_and_datasets_are_errors():
    with pytest.raises(
        TypeError, match=r'expected a sampler with dataset, seed and epoch, got RandomSampler. Use sampler=dict'
    ):
        PKSampler(torch.utils.data.RandomSampler(Labelled([0, 1])), batch_size=2, images_per_class=1)
    with pytest.raises(ValueError, match=r'expected sampler\.shuffle=True, got False'):
        PKSampler(DefaultSampler(Labelled([0, 1]), shuffle=False), batch_size=2, images_per_class=1)
    with pytest.raises(ValueError, match='the dataset is empty'):
        PKSampler(DefaultSampler(Labelled([])), batch_size=2, images_per_class=1)


# Through the Runner, on one and on two processes.


@DATASETS.register_module(force=True)
class PKPoints(torch.utils.data.Dataset):
    def __init__(self):
        self.metainfo = dict(classes=list('abcd'))

    def __len__(self):
        return 30

    def get_gt_labels(self):
        return np.arange(30) % 4

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([float(index)]), label=int(index % 4))


@MODELS.register_module(force=True)
class PKModel(torch.nn.Module):
    """Remembers what it was trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer('seen', torch.zeros(0))

    def train_step(self, data, optim_wrapper):
        self.seen = torch.cat([self.seen, data['inputs'].flatten()])
        optim_wrapper.update_params((self.weight * data['inputs'].mean()).sum())
        return {}


@HOOKS.register_module(force=True)
class StopAfterEpoch(Hook):
    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def run(folder, stop=None, resume=False):
    model = PKModel()
    cfg = Config(
        dict(
            work_dir=str(folder),
            default_scope='hybridcls',
            log_level='ERROR',
            randomness=dict(seed=5),
            resume=resume,
            train_dataloader=dict(
                batch_size=6,
                num_workers=0,
                dataset=dict(type='PKPoints'),
                drop_last=True,  # as in our base configs
                sampler=dict(type='DefaultSampler', shuffle=True),
                batch_sampler=dict(type='PKSampler', images_per_class=3),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', interval=1),
                logger=None,
                sampler_seed=dict(type='DistSamplerSeedHook'),
            ),
            custom_hooks=[dict(type='StopAfterEpoch', epoch=stop)] if stop else [],
        )
    )
    apply(cfg, dataloaders)
    runner = Runner(
        model=model,
        cfg=cfg,
        experiment_name=f'{folder.name}-{stop}-{resume}',
        **{key: value for key, value in cfg.items()},
    )
    with contextlib.suppress(KeyboardInterrupt):
        runner.train()
    return model.seen.reshape(-1, 6).int()


def test_resumed_run_draws_the_same_batches(tmp_path):
    whole = run(tmp_path / 'whole')
    assert len(whole) == 3 * 6  # 4 classes of 7 or 8 images: 3 groups of 3 each, two groups a batch
    for batch in whole:
        assert sorted(Counter((batch % 4).tolist()).values()) == [3, 3]
    assert all(len(set(epoch.flatten().tolist())) == 30 for epoch in whole.split(6))
    assert not torch.equal(whole[:6], whole[6:12])
    run(tmp_path / 'stopped', stop=1)
    torch.testing.assert_close(run(tmp_path / 'stopped', resume=True)[-12:], whole[6:])


def work(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    dataset = PKPoints()
    loader = Runner.build_dataloader(
        dict(
            batch_size=4,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=True),
            batch_sampler=dict(type='hybridcls.PKSampler', images_per_class=2),
        )
    )
    epochs = []
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        epochs.append([[int(item) for item in batch['inputs']] for batch in loader])
    torch.save(epochs, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_two_processes_draw_different_images(tmp_path):
    run_processes(work, tmp_path)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert first[0] != first[1]
    for epoch in range(2):
        assert len(first[epoch]) == len(second[epoch]) == 4
        for a, b in zip(first[epoch], second[epoch], strict=True):
            assert {image % 4 for image in a} | {image % 4 for image in b} == {0, 1, 2, 3}  # no class twice
        assert {image for batch in first[epoch] + second[epoch] for image in batch} == set(range(30))
