"""Evidential classifiers in mmengine's Runner: annealing over a resume, mixup, precision, learning and rejection."""

import contextlib

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import HOOKS

KNOWN, UNKNOWN = (1, 2, 3, 4, 5, 6, 7, 8), (0, 9)


class Stopped(Exception):
    """The run was stopped from outside."""


@HOOKS.register_module(force=True)
class StopAfterTwoEpochs(Hook):
    priority = 'VERY_LOW'

    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            raise Stopped


def config(work_dir, epochs, head=None, **keys):
    resize, pack = dict(type='ResizeToSize', img_size=16), dict(type='PackInputs')
    tested = [
        dict(type='Digits', split='test', digits=KNOWN, pipeline=[resize, pack]),
        dict(type='Digits', split='test', digits=UNKNOWN, pipeline=[resize, dict(type='MarkUnknown'), pack]),
    ]
    loader = dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    cfg = dict(
        default_scope='hybridcls',
        work_dir=str(work_dir),
        log_level='ERROR',
        randomness=dict(seed=0),
        model=dict(
            type='HybridClassifier',
            backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='EvidentialHead', num_classes=8, in_channels=64, **(head or {})),
        ),
        train_dataloader={
            **loader,
            'drop_last': True,
            'sampler': dict(type='DefaultSampler', shuffle=True),
            'dataset': dict(type='Digits', split='train', digits=KNOWN, pipeline=[resize, pack]),
        },
        val_dataloader={**loader, 'dataset': dict(type='ConcatDataset', datasets=tested, ignore_keys=['classes'])},
        val_evaluator=[
            dict(type='HeadMetric', known_only=True, metric=dict(type='Accuracy')),
            dict(type='ValLoss'),
            dict(type='OODMetric', scores=('epistemic', 'least_confidence')),
            dict(type='CalibrationMetric'),
        ],
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=epochs),
        optim_wrapper=dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=5e-3)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1000)),
    )
    cfg.update(keys)
    return Config(cfg)


def trained(cfg, logged=('kl_weight',)):
    """Train and return the weights, the metrics and what was logged in each iteration."""
    with isolated_globals():
        runner = Runner.from_cfg(cfg)
        with contextlib.suppress(Stopped):
            runner.train()
        scalars = runner.message_hub.log_scalars
        metrics = {name[4:]: scalars[name].current() for name in scalars if name.startswith('val/')}
        return runner.model.state_dict(), metrics, *(scalars[f'train/{name}'].data[0].tolist() for name in logged)


def few(cfg):
    cfg.train_dataloader.dataset.indices = 128  # two batches an epoch
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    return cfg


@pytest.mark.slow
def test_annealing_goes_on_after_a_resume(tmp_path):
    """Of two heads, one that counts epochs and one that counts iterations."""
    expected = dict(epochs=[0, 0, 0.25, 0.25, 0.5, 0.5], iterations=[0, 0.25, 0.5, 0.75, 1, 1])
    heads = {
        name: dict(type='EvidentialHead', loss=dict(annealing=4, annealing_by=by))
        for name, by in (('epochs', 'epoch'), ('iterations', 'iter'))
    }
    hooks = [dict(type='RandomStateHook')]

    def run(folder, **keys):
        cfg = few(config(tmp_path / folder, 3, **keys))
        cfg.model.head = dict(type='MultiHead', num_classes=8, in_channels=64, heads=heads)
        return trained(cfg, [f'{name}.kl_weight' for name in heads])

    straight, _, *logged = run('straight', custom_hooks=hooks)
    assert logged == [pytest.approx(values) for values in expected.values()]
    _, _, *logged = run('stopped', custom_hooks=[*hooks, dict(type='StopAfterTwoEpochs')])
    assert logged == [pytest.approx(values[:4]) for values in expected.values()]
    resumed, _, *logged = run('stopped', custom_hooks=hooks, resume=True)
    assert logged == [pytest.approx(values) for values in expected.values()]
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


@pytest.mark.parametrize(
    'keys', [dict(amp='bfloat16'), dict(accumulative_counts=2), dict(stages=dict(sam=dict(type='SAM')))], ids=str
)
def test_precision_accumulation_and_sam(tmp_path, keys):
    cfg = few(config(tmp_path, 2, dict(loss=dict(annealing=2))))
    cfg.optim_wrapper.update(keys)
    weights, _, logged = trained(cfg)
    assert logged == [0.0, 0.0, 0.5, 0.5]  # SAM's second pass is no second iteration
    assert all(value.isfinite().all() for value in weights.values())


def test_mixup(tmp_path):
    cfg = few(config(tmp_path, 1))
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=1.0))
    weights, _, _ = trained(cfg)
    assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.slow
def test_it_learns_eight_digits_and_rejects_two(tmp_path):
    _, metrics, _ = trained(config(tmp_path, 4, dict(loss=dict(annealing=4))))
    assert metrics['accuracy/top1'] > 90
    assert metrics['ood/auroc_epistemic'] > 75
    assert 0 < metrics['val/loss'] < 3
    assert torch.tensor([metrics['calibration/nll'], metrics['calibration/ece']]).isfinite().all()
