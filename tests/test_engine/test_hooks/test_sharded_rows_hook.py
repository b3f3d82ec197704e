import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from processes import run_processes
from torch import nn

from hybridcls.engine.hooks import ShardedRowsHook
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.functional import RowShard
from hybridcls.models.modules import leave_to_processes, shard_rows
from hybridcls.registry import DATASETS, MODELS

CLASSES, SUB_CENTRES = 5, 2


@DATASETS.register_module(force=True)
class ShardedPoints(BaseDataset):
    """24 points without a pattern; nothing is random."""

    METAINFO = dict(classes=tuple('abcde'))

    def load_data_list(self):
        return [dict(label=index * 7 % CLASSES) for index in range(24)]

    def prepare_data(self, idx):
        numbers = torch.arange(4.) + 5 * idx
        return dict(inputs=numbers.sin(), data_samples=DataSample().set_gt_label(self.data_list[idx]['label']))


@MODELS.register_module(force=True)
class LinearBackbone(BaseModule):
    out_channels = 6

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, inputs):
        return (self.linear(inputs), )


@MODELS.register_module(force=True)
class StackOnly(BaseModule):
    def forward(self, data, training=False):
        return dict(inputs=torch.stack(data['inputs']), data_samples=data['data_samples'])


def run(folder, epochs, processes, shard, **changes):
    """Train up to so many epochs, from where the last run in the folder ended."""
    config = dict(
        model=dict(
            type='hybridcls.HybridClassifier', backbone=dict(type='LinearBackbone'),
            data_preprocessor=dict(type='StackOnly'),
            head=dict(type='ArcFaceHead', num_classes=CLASSES, scale=8., sub_centres=SUB_CENTRES,
                      shard_classes=shard)),
        train_dataloader=dict(
            batch_size=8 // processes, num_workers=0, dataset=dict(type='ShardedPoints', serialize_data=False),
            sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='pseudo_collate')),
        val_dataloader=dict(
            batch_size=4, num_workers=0, dataset=dict(type='ShardedPoints', serialize_data=False, test_mode=True),
            sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate')),
        val_evaluator=dict(type='Accuracy'), val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(
            type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.1),
            clip_grad=dict(max_norm=0.5), stages=dict(sam=dict(type='SAM', rho=0.5), la=dict(type='Lookahead', k=4))),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy/top1')),
        custom_hooks=[dict(type='EMAHook', momentum=0.1), dict(type='ShardedRowsHook')],
        default_scope='hybridcls', randomness=dict(seed=3), log_level='ERROR', work_dir=str(folder),
        experiment_name=f'{epochs}_{processes}_{time.time_ns()}', resume=True,
        launcher='pytorch' if processes > 1 else 'none', env_cfg=dict(dist_cfg=dict(backend='gloo')))
    if processes > 1:
        config['model_wrapper_cfg'] = dict(type='MMDistributedDataParallel', device_ids=None)
    config.update(changes)
    runner = Runner.from_cfg(Config(config))
    runner.train()
    return runner


def work(rank, folder):
    folder, os.environ['LOCAL_RANK'] = Path(folder), str(rank)
    for number, epochs in enumerate([1, 3]):
        dist.init_process_group('gloo', init_method=f'file://{folder}/init{number}', rank=rank, world_size=2)
        head = run(folder / 'shared', epochs, 2, shard=True).model.module.head
        assert len(head.weight) == [3, 2][rank]
        dist.destroy_process_group()
        if number == 0 and rank == 0:
            run(folder / 'shared', 2, 1, shard=False)
            (folder / 'alone').touch()
        while not (folder / 'alone').exists():
            time.sleep(0.05)


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_then_one_then_two_equal_one(tmp_path):
    run_processes(work, tmp_path)
    run(tmp_path / 'one', 3, 1, shard=False)
    for name in ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', *(p.name for p in (tmp_path / 'one').glob('best*'))]:
        shared, one = (torch.load(tmp_path / folder / name, weights_only=False) for folder in ('shared', 'one'))
        assert type(shared['state_dict']['head.weight']) is torch.Tensor
        assert shared['state_dict']['head.weight'].shape == (CLASSES, SUB_CENTRES, 6)
        for key in ['state_dict', 'ema_state_dict']:
            torch.testing.assert_close(dict(shared[key]), dict(one[key]), rtol=1e-3, atol=1e-5)
        if 'best' not in name:
            torch.testing.assert_close(shared['optimizer']['state'], one['optimizer']['state'], rtol=1e-3, atol=1e-5)


def sharded_model(ignored=True):
    model = nn.Linear(3, 2)
    shard_rows(model, 'weight', RowShard(first=0, size=2, total=4))
    if ignored:
        leave_to_processes(model)
    return model


def before_train(model, wrapper=OptimWrapper, wrap=lambda model: model, **keys):
    optim_wrapper = wrapper(torch.optim.SGD(model.parameters(), lr=0.1), **keys)
    ShardedRowsHook().before_train(SimpleNamespace(model=wrap(model), optim_wrapper=optim_wrapper))


def test_what_would_spoil_shards_is_named(tmp_path):
    before_train(nn.Linear(3, 2), clip_grad=dict(max_norm=1.))  # nothing is sharded
    before_train(sharded_model())
    before_train(sharded_model(), ComposedOptimWrapper, clip_grad=dict(max_norm=1.), amp='float16')
    with pytest.raises(ValueError, match='clip_grad of OptimWrapper would see the part of one process only'):
        before_train(sharded_model(), clip_grad=dict(max_norm=1.))
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1)
    try:
        wrap = nn.parallel.DistributedDataParallel
        before_train(sharded_model(), wrap=wrap)
        with pytest.raises(ValueError, match='weight is sharded over processes, and DistributedDataParallel averages'):
            before_train(sharded_model(ignored=False), wrap=wrap)
    finally:
        dist.destroy_process_group()
