"""Token merging that is switched on for training, validation or test."""

import json
from pathlib import Path

import pytest
import torch
from processes import run_processes

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training
from hybridcls.engine.hooks import TokenMergingHook
from hybridcls.engine.runner.global_instances import isolated_globals

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier',
             backbone=dict(type='HybridBackbone', vit=dict(model_name='test_vit', patch_size=8, drop_path_rate=0.)),
             head=dict(type='LinearHead'))
pipeline = [dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')]
train_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='Digits', indices=32, pipeline=pipeline))
val_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(type='Digits', split='test', indices=32, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = [dict(type='Accuracy'), dict(type='ValLoss')]
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), curves=dict(type='LearningCurvesHook'))
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'merging.py'
    path.write_text(CONFIG)
    return path


def lengths_seen(runner):
    """Tokens in the last MLP of the transformer, by phase, as they come."""
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    mlp, seen = model.backbone.vit.model.blocks[-1].mlp, []
    mlp.register_forward_hook(lambda module, inputs, out: seen.append((module.training, inputs[0].shape[1])))
    return seen


def run(config, work_dir, hooks, **options):
    with isolated_globals():
        cfg = load_config(config, options)
        cfg.custom_hooks = hooks
        runner = build_runner(prepare_training(cfg, TrainOptions(), str(work_dir)))
        seen = lengths_seen(runner)
        runner.train()
        return runner, seen


WHOLE, MERGED = 17, 17 - 6  # one of 16 patches in each of six blocks


@pytest.mark.parametrize(
    ('when', 'in_training', 'in_validation'),
    [(('val', 'test'), WHOLE, MERGED), ('train', MERGED, WHOLE), (['train', 'val'], MERGED, MERGED)],
)
def test_tokens_merge_in_the_phases_that_are_named(config, tmp_path, when, in_training, in_validation):
    hook = dict(type='TokenMergingHook', token_merging_ratio=dict(r=1), when=when)
    runner, seen = run(config, tmp_path / 'w', [hook])
    assert seen == [*[(True, in_training)] * 2, *[(False, in_validation)] * 2] * 2
    assert not hasattr(runner.model.backbone.vit.model, 'token_merging')


def test_a_model_that_merges_can_be_evaluated_whole(config, tmp_path):
    hook = dict(type='TokenMergingHook', token_merging_ratio=0.0)
    runner, seen = run(config, tmp_path / 'w', [hook], **{'model.backbone.token_merging_ratio': dict(r=1)})
    assert seen == [*[(True, MERGED)] * 2, *[(False, WHOLE)] * 2] * 2
    assert runner.model.backbone.vit.model.token_merging.schedule.tokens(0, 16) == 1


def test_training_does_not_notice_a_validation_with_merging(config, tmp_path):
    plain, _ = run(config, tmp_path / 'plain', [])
    merged, _ = run(config, tmp_path / 'merged', [dict(type='TokenMergingHook', token_merging_ratio=0.4)])
    for name, value in plain.model.state_dict().items():
        assert torch.equal(merged.model.state_dict()[name], value)
    losses = [runner.message_hub.get_scalar('val/val/loss').current() for runner in (plain, merged)]
    assert losses[0] != losses[1]


def test_the_average_is_what_is_evaluated(config, tmp_path):
    """An average that hardly moves is evaluated alike after both epochs; the weights themselves have moved."""
    hooks = [
        dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-9),
        dict(type='TokenMergingHook', token_merging_ratio=dict(r=1)),
    ]
    runner, seen = run(config, tmp_path / 'w', hooks, **{'optim_wrapper.optimizer.lr': 0.1})
    curves = json.loads((tmp_path / 'w' / 'learning_curves.json').read_text())
    first, second = [one['metrics']['val/loss'] for one in curves]
    assert second == pytest.approx(first, rel=1e-5)
    assert seen == [*[(True, WHOLE)] * 2, *[(False, MERGED)] * 2] * 2
    saved = torch.load(tmp_path / 'w' / 'epoch_2.pth', weights_only=False)
    assert list(saved['state_dict']) == list(runner.model.state_dict())
    moved = saved['state_dict']['backbone.vit.model.cls_token'] - runner.model.backbone.vit.model.cls_token
    assert moved.abs().max() > 1e-5


def test_a_test_of_a_checkpoint(config, tmp_path):
    run(config, tmp_path / 'w', [])
    with isolated_globals():
        cfg = load_config(config, {})
        cfg.custom_hooks = [dict(type='TokenMergingHook', token_merging_ratio=dict(r=1))]
        runner = build_runner(
            prepare_testing(cfg, str(tmp_path / 'w' / 'epoch_2.pth'), TrainOptions(), str(tmp_path / 't'))
        )
        seen = lengths_seen(runner)
        runner.test()
    assert seen == [(False, MERGED)] * 2


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (dict(token_merging_ratio=0.7), r'expected token_merging_ratio in \[0, 0.5\], got 0.7'),
        (dict(token_merging_ratio=[0.1]), 'has 1 values, and the transformer has 6 blocks'),
        (dict(token_merging_ratio=0.1, unmerged_order='score'), "expected unmerged_order to be one of .*, got 'score'"),
    ],
)
def test_what_is_impossible_is_said_before_the_run(config, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        run(config, tmp_path / 'w', [dict(type='TokenMergingHook', **options)])


def test_a_phase_that_does_not_exist():
    with pytest.raises(ValueError, match=r"expected when to be one of .*, got 'valid'.* Did you mean 'val'"):
        TokenMergingHook(0.1, when='valid')
    with pytest.raises(ValueError, match='when is empty'):
        TokenMergingHook(0.1, when=())


def work(rank, config, work_dir):
    cfg = load_config(config, {})
    cfg.custom_hooks = [dict(type='TokenMergingHook', token_merging_ratio=dict(r=1), when='train')]
    runner = build_runner(prepare_training(cfg, TrainOptions(launcher='pytorch'), str(work_dir)))
    seen = lengths_seen(runner)
    runner.train()
    (work_dir / f'{rank}.txt').write_text(str(seen))


@pytest.mark.dist
def test_two_processes_merge_in_validation_and_in_training(config, tmp_path):
    run_processes(work, config, tmp_path / 'w')
    assert [Path(tmp_path / 'w' / f'{rank}.txt').read_text() for rank in range(2)] == [
        str([(True, MERGED), (False, WHOLE)] * 2)
    ] * 2
