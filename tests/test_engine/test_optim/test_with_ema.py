"""Averages of weights (EMA, SWA) beside SAM and Lookahead, in runs of mmengine's Runner."""

import pytest
import torch
from mmengine.hooks import Hook

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import HOOKS

ITERATIONS = 8
SHARPNESS = [dict(type='SAM', rho=0.1), dict(type='MSAM', rho=0.1), dict(type='FriendlySAM', rho=0.1)]
AVERAGES = {
    "mmengine's EMA": dict(type='mmengine.EMAHook', momentum=0.3),
    "mmpretrain's EMA of buffers too": dict(type='mmpretrain.EMAHook', momentum=0.3, update_buffers=True),
    'SWA': dict(type='mmengine.EMAHook', ema_type='StochasticWeightAverage', begin_iter=3),
}


@HOOKS.register_module(force=True)
class WatchHook(Hook):
    """Remember the weights after each iteration, and those that validations saw."""

    trained, validated = [], []

    def after_train_iter(self, runner, *args, **kwargs):
        self.trained.append({name: value.clone() for name, value in runner.model.state_dict().items()})

    def before_val_iter(self, runner, *args, **kwargs):
        self.validated.append((runner.iter, {name: value.clone() for name, value in runner.model.state_dict().items()}))


def train(config, work_dir, average, sharpness, resume=None, stop_at=None, accumulation=1, **changes):
    WatchHook.trained, WatchHook.validated = [], []
    hooks = [average, dict(type='WatchHook')] + ([dict(type='StopHook', iteration=stop_at)] if stop_at else [])
    options = {
        'custom_hooks': hooks,
        'optim_wrapper': dict(
            _delete_=True,
            type='ComposedOptimWrapper',
            optimizer=dict(type='AdamW', lr=0.05),
            constructor='HybridOptimWrapperConstructor',
            accumulative_counts=accumulation,
            stages=dict(sharpness=sharpness, lookahead=dict(type='Lookahead', k=3)),
        ),
        'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=3),
        'default_hooks.checkpoint': dict(_delete_=True, type='CheckpointHook', interval=4, by_epoch=False),
        'param_scheduler': [],
        'train_dataloader.sampler.type': 'InfiniteSampler',
        **changes,
    }
    with isolated_globals():
        cfg = prepare_training(load_config(config, options), TrainOptions(resume=resume), str(work_dir))
        runner = build_runner(cfg)
        runner.train()
    return runner


def checkpoint_of(work_dir):
    return torch.load(work_dir / f'iter_{ITERATIONS}.pth', weights_only=False)


def average_by_hand(trained, name, average):
    """The average after each iteration, of the weights that training had there."""
    found, mean, count = [], None, 0
    for iteration, weights in enumerate(trained):
        value = weights[name].double()
        if iteration + 1 < average.get('begin_iter', 0) or mean is None:
            mean, count = value, 1 if iteration + 1 >= average.get('begin_iter', 0) else 0
        elif 'ema_type' in average:
            count += 1
            mean = value if count == 1 else mean + (value - mean) / count
        else:
            mean = 0.7 * mean + 0.3 * value
        found.append(mean)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'sharpness', 'accumulation'), zip(AVERAGES, SHARPNESS, [1, 2, 1], strict=True))
def test_averages_beside_sam_and_lookahead(toy_configs, tmp_path, kind, sharpness, accumulation):
    average = AVERAGES[kind]
    setting = dict(config=toy_configs / 'toy.py', average=average, accumulation=accumulation, sharpness=sharpness)
    train(work_dir=tmp_path / 'straight', **setting)
    saved = checkpoint_of(tmp_path / 'straight')
    trained, validated = WatchHook.trained, WatchHook.validated
    assert len(trained) == ITERATIONS
    for name in ('backbone.0.weight', 'head.bias'):
        # Never of weights that SAM has ascended to, and after Lookahead has put the slow weights in place.
        by_hand = average_by_hand(trained, name, average)
        torch.testing.assert_close(saved['state_dict'][name].double(), by_hand[-1], rtol=1e-6, atol=1e-6)
        assert torch.equal(saved['ema_state_dict'][f'module.{name}'], trained[-1][name])
        assert not torch.equal(saved['state_dict'][name], trained[-1][name])
        for iteration, seen in validated:  # validation has the average in place
            torch.testing.assert_close(seen[name].double(), by_hand[iteration - 1], rtol=1e-6, atol=1e-6)
    assert {iteration for iteration, _ in validated} == {3, 6, ITERATIONS}

    # Stopped in the middle of Lookahead's cycle, and without any validation: still the same bits.
    setting.update(work_dir=tmp_path / 'stopped', val_cfg=None, val_dataloader=None, val_evaluator=None)
    with pytest.raises(Exception) as caught:
        train(stop_at=5, **setting)
    assert caught.type.__name__ == 'Stopped'
    train(resume='auto', **setting)
    resumed = checkpoint_of(tmp_path / 'stopped')
    assert saved['optimizer']['param_groups'] == resumed['optimizer']['param_groups']
    for part in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(resumed[part], saved[part], rtol=0, atol=0)
    torch.testing.assert_close(resumed['optimizer']['state'], saved['optimizer']['state'], rtol=0, atol=0)
