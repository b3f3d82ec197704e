import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from processes import run_processes
from torch import nn

from hybridcls.distributed import RowShard, exclude_from_ddp, shard_rows
from hybridcls.distributed.drawn_rows import with_row_gradient
from hybridcls.engine.hooks import ShardedRowsHook
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.engine.training import build_runner
from hybridcls.registry import DATASETS, HOOKS, MODELS

CLASSES, SUBCENTERS = 5, 2


@DATASETS.register_module(force=True)
class ShardedPoints(BaseDataset):
    """24 points without a pattern; nothing is random."""

    METAINFO = dict(classes=tuple('abcde'))

    def load_data_list(self):
        return [dict(label=index * 7 % CLASSES) for index in range(24)]

    def prepare_data(self, idx):
        numbers = torch.arange(4.0) + 5 * idx
        return dict(inputs=numbers.sin(), data_samples=DataSample().set_gt_label(self.data_list[idx]['label']))


@MODELS.register_module(force=True)
class LinearBackbone(BaseModule):
    out_channels = 6

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, inputs):
        return (self.linear(inputs),)


@MODELS.register_module(force=True)
class StackOnly(BaseModule):
    def forward(self, data, training=False):
        return dict(inputs=torch.stack(data['inputs']), data_samples=data['data_samples'])


def run(folder, epochs, processes, shard, **changes):
    """Train up to so many epochs, from where the last run in the folder ended."""
    config = dict(
        model=dict(
            type='hybridcls.HybridClassifier',
            backbone=dict(type='LinearBackbone'),
            data_preprocessor=dict(type='StackOnly'),
            head=dict(
                type='ArcFaceHead', num_classes=CLASSES, scale=8.0, num_subcenters=SUBCENTERS, shard_classes=shard
            ),
        ),
        train_dataloader=dict(
            batch_size=8 // processes,
            num_workers=0,
            dataset=dict(type='ShardedPoints', serialize_data=False),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        val_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='ShardedPoints', serialize_data=False, test_mode=True),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        val_evaluator=dict(type='Accuracy'),
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(
            type='ComposedOptimWrapper',
            optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.1),
            clip_grad=dict(max_norm=0.5),
            stages=dict(sam=dict(type='SAM', rho=0.5), la=dict(type='Lookahead', k=4)),
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy/top1')),
        custom_hooks=[dict(type='EMAHook', momentum=0.1), dict(type='ShardedRowsHook')],
        default_scope='hybridcls',
        randomness=dict(seed=3),
        log_level='ERROR',
        work_dir=str(folder),
        experiment_name=f'{epochs}_{processes}_{time.time_ns()}',
        resume=True,
        launcher='pytorch' if processes > 1 else 'none',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
    )
    if processes > 1:
        config['model_wrapper_cfg'] = dict(type='MMDistributedDataParallel', device_ids=None)
    config.update(changes)
    runner = build_runner(Config(config))
    runner.train()
    return runner


class Killed(Exception):
    """Stands for a machine that went away."""


@HOOKS.register_module(force=True)
class KillAtEpochHook(Hook):
    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise Killed


def run_accumulating(folder, epochs, processes, shard, stages):
    """Train for three epochs of three micro-batches, four of which are an update, but for being killed before."""
    with suppress(Killed):
        return run(
            folder,
            3,
            processes,
            shard,
            optim_wrapper=dict(
                type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=0.05), accumulative_counts=4, stages=stages
            ),
            custom_hooks=[dict(type='ShardedRowsHook'), dict(type='KillAtEpochHook', epoch=epochs)],
        )


ACCUMULATING = dict(plain=None, sam=dict(sam=dict(type='SAM', rho=0.5)))
RUNS = dict(shared=run, **{name: partial(run_accumulating, stages=stages) for name, stages in ACCUMULATING.items()})


def work(rank, folder):
    """Each run goes on for one epoch in two processes, for another in one, and to its end in two."""
    folder, os.environ['LOCAL_RANK'] = Path(folder), str(rank)
    for name, start in RUNS.items():
        for epochs in (1, 3):
            dist.init_process_group('gloo', init_method=f'file://{folder}/{name}{epochs}', rank=rank, world_size=2)
            runner = start(folder / name, epochs, 2, shard=True)
            assert runner is None or len(runner.model.module.head.weight) == [3, 2][rank]
            dist.destroy_process_group()
            alone = folder / f'{name}_alone'
            if epochs == 1 and rank == 0:
                start(folder / name, 2, 1, shard=False)
                alone.touch()
            while not alone.exists():
                time.sleep(0.05)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The folder that all processes of :func:`work` share."""
    folder = tmp_path_factory.mktemp('runs')
    run_processes(work, folder)
    return folder


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize('name', ACCUMULATING)
def test_half_accumulated_gradients_go_to_another_number_of_processes(name, runs, tmp_path):
    RUNS[name](tmp_path, 3, 1, shard=False)
    for epoch in (1, 2, 3):
        shared, one = (
            torch.load(folder / f'epoch_{epoch}.pth', weights_only=False) for folder in (runs / name, tmp_path)
        )
        torch.testing.assert_close(dict(shared['state_dict']), dict(one['state_dict']), rtol=1e-4, atol=1e-6)
        half = {key for entry in one['optimizer']['state'].values() for key in entry if 'accumulated' in key}
        assert bool(half) == (epoch < 3)


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_then_one_then_two_equal_one(runs, tmp_path):
    run(tmp_path / 'one', 3, 1, shard=False)
    for name in ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', *(p.name for p in (tmp_path / 'one').glob('best*'))]:
        shared, one = (torch.load(folder / name, weights_only=False) for folder in (runs / 'shared', tmp_path / 'one'))
        assert type(shared['state_dict']['head.weight']) is torch.Tensor
        assert shared['state_dict']['head.weight'].shape == (CLASSES, SUBCENTERS, 6)
        for key in ['state_dict', 'ema_state_dict']:
            torch.testing.assert_close(dict(shared[key]), dict(one[key]), rtol=1e-3, atol=1e-5)
        if 'best' not in name:
            torch.testing.assert_close(shared['optimizer']['state'], one['optimizer']['state'], rtol=1e-3, atol=1e-5)


class DrawnOnlyHook(Hook):
    """Weights and state of classes that were not drawn are those of before."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, **_):
        self.before = self.rows_of(runner)

    def after_train_iter(self, runner, **_):
        (weight, *state), (old_weight, *old_state) = self.rows_of(runner), self.before
        drawn = (weight != old_weight).flatten(1).any(1)
        assert 1 <= drawn.sum() <= 2  # of 3 or 2
        assert all(torch.equal(old[~drawn], new[~drawn]) for old, new in zip(old_state, state, strict=False))

    @staticmethod
    def rows_of(runner):
        weight = runner.model.module.head.weight
        state = runner.optim_wrapper.optimizer.state[weight].values()
        return [tensor.detach().clone() for tensor in (weight, *state) if tensor.dim()]


def draw_classes(rank, folder):
    """Two processes, one epoch and the other, and both without a stop."""
    os.environ['LOCAL_RANK'] = str(rank)
    for name, stops in dict(stopped=(1, 2), straight=(2,)).items():
        for epochs in stops:
            method = f'file://{folder}/{name}{epochs}'
            dist.init_process_group('gloo', init_method=method, rank=rank, world_size=2)
            run(
                Path(folder) / name,
                epochs,
                2,
                True,
                model=dict(
                    type='hybridcls.HybridClassifier',
                    backbone=dict(type='LinearBackbone'),
                    data_preprocessor=dict(type='StackOnly'),
                    head=dict(type='ArcFaceHead', num_classes=CLASSES, scale=8.0, shard_classes=True, sample_rate=0.4,
                              update_drawn_only=True),
                ),
                train_dataloader=dict(
                    batch_size=1,
                    num_workers=0,
                    dataset=dict(type='ShardedPoints', serialize_data=False),
                    sampler=dict(type='DefaultSampler', shuffle=True),
                    collate_fn=dict(type='pseudo_collate'),
                ),
                optim_wrapper=dict(
                    type='ComposedOptimWrapper',
                    optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.1),
                    clip_grad=dict(max_norm=0.5),
                    stages=dict(la=dict(type='Lookahead', k=40)),
                ),
                custom_hooks=[
                    dict(type='EMAHook', momentum=0.1),
                    dict(type='ShardedRowsHook'),
                    dict(type='RandomStateHook'),
                    dict(type=DrawnOnlyHook),
                ],
            )  # fmt: skip
            dist.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_classes_that_were_not_drawn_stay_and_a_resumed_run_ends_in_the_same_bits(tmp_path):
    run_processes(draw_classes, tmp_path)
    stopped, straight = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False) for name in ('stopped', 'straight')
    )
    for key in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(dict(stopped[key]), dict(straight[key]), rtol=0, atol=0)
    torch.testing.assert_close(stopped['optimizer']['state'], straight['optimizer']['state'], rtol=0, atol=0)


def test_another_wrapper_cannot_update_drawn_classes_alone():
    model = nn.Linear(3, 2)
    with_row_gradient(model.weight)
    with pytest.raises(ValueError, match=r'update_drawn_only=True of the head needs .*, got OptimWrapper'):
        before_train(model)
    before_train(model, ComposedOptimWrapper)


def sharded_model(ignored=True):
    model = nn.Linear(3, 2)
    shard_rows(model, 'weight', RowShard(first=0, size=2, total=4))
    if ignored:
        exclude_from_ddp(model)
    return model


def before_train(model, wrapper=OptimWrapper, wrap=lambda model: model, **keys):
    optim_wrapper = wrapper(torch.optim.SGD(model.parameters(), lr=0.1), **keys)
    ShardedRowsHook().before_train(SimpleNamespace(model=wrap(model), optim_wrapper=optim_wrapper))


def test_a_runner_that_would_copy_the_first_rows_to_all_processes_is_refused(monkeypatch):
    runner = SimpleNamespace(model=sharded_model())
    ShardedRowsHook().before_run(runner)  # of one process
    monkeypatch.setattr('hybridcls.engine.hooks.sharded_rows_hook.get_dist_info', lambda: (0, 2))
    with pytest.raises(TypeError, match='got SimpleNamespace, which would copy weight of the first process'):
        ShardedRowsHook().before_run(runner)


def test_what_would_corrupt_shards_is_named(tmp_path):
    before_train(nn.Linear(3, 2), clip_grad=dict(max_norm=1.0))  # nothing is sharded
    before_train(sharded_model())
    before_train(sharded_model(), ComposedOptimWrapper, clip_grad=dict(max_norm=1.0), amp='float16')
    with pytest.raises(ValueError, match=r'clip_grad of OptimWrapper would see only the part of its process\.'):
        before_train(sharded_model(), clip_grad=dict(max_norm=1.0))
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    try:
        wrap = nn.parallel.DistributedDataParallel
        before_train(sharded_model(), wrap=wrap)
        with pytest.raises(ValueError, match='weight is sharded over processes, and DistributedDataParallel averages'):
            before_train(sharded_model(ignored=False), wrap=wrap)
    finally:
        dist.destroy_process_group()
