import pytest
import torch
from mmengine.hooks import Hook

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import HOOKS

UPDATE = dict(
    _delete_=True,
    type='LookaheadOptimWrapper',
    k=2,
    alpha=0.5,  # three updates an epoch
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
)
HOOK = dict(type='SlowWeightsHook')


@HOOKS.register_module(force=True)
class Watcher(Hook):
    """Notes the weights while a validation runs, and after it."""

    seen: list = []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.seen.append(('val', copies(runner)))

    def after_train_epoch(self, runner):
        self.seen.append(('train', copies(runner)))

    def before_train_epoch(self, runner):
        self.seen.append(('next', copies(runner)))


def copies(runner):
    return {name: param.detach().clone() for name, param in runner.model.named_parameters()}


def run(config, work_dir, resume=None, hooks=(HOOK,), **options):
    Watcher.seen = []
    with isolated_globals():
        cfg = prepare_training(
            load_config(config, {'optim_wrapper': UPDATE, 'custom_hooks': list(hooks), **options}),
            TrainOptions(resume=resume),
            str(work_dir),
        )
        runner = build_runner(cfg)
        runner.train()
    return runner


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_validation_and_checkpoints_have_the_slow_weights_and_training_the_fast(toy_configs, tmp_path):
    options = {'default_hooks.checkpoint.max_keep_ckpts': -1}
    runner = run(toy_configs / 'toy.py', tmp_path / 'slow', hooks=[HOOK, dict(type='Watcher')], **options)
    seen = Watcher.seen
    assert [moment for moment, _ in seen] == ['next', 'train', 'val'] * 3
    fast, slow = seen[1][1], seen[2][1]  # of the first epoch: one update after the slow step
    assert not same(fast, slow)
    assert same(fast, seen[3][1])  # back again
    checkpoint = torch.load(tmp_path / 'slow' / 'epoch_1.pth', weights_only=False)
    assert same(slow, checkpoint['state_dict'])
    assert same(fast, checkpoint['fast_state_dict'])
    best = next((tmp_path / 'slow').glob('best_*.pth'))
    assert 'fast_state_dict' in torch.load(best, weights_only=False)

    # Training goes the way that it goes without the hook.
    run(toy_configs / 'toy.py', tmp_path / 'plain', hooks=[dict(type='Watcher')], **options)
    assert same(Watcher.seen[-2][1], seen[-2][1])
    plain = torch.load(tmp_path / 'plain' / 'epoch_3.pth', weights_only=False)
    own = torch.load(tmp_path / 'slow' / 'epoch_3.pth', weights_only=False)
    assert same({name: plain['state_dict'][name] for name in own['fast_state_dict']}, own['fast_state_dict'])

    # A run that is resumed goes on from the fast weights; one that starts from them takes the slow ones.
    run(toy_configs / 'toy.py', tmp_path / 'resumed', resume=str(tmp_path / 'slow' / 'epoch_1.pth'), **options)
    resumed = torch.load(tmp_path / 'resumed' / 'epoch_3.pth', weights_only=False)
    assert same(own['state_dict'], resumed['state_dict'])
    assert same(own['fast_state_dict'], resumed['fast_state_dict'])
    run(
        toy_configs / 'toy.py',
        tmp_path / 'other',
        hooks=[HOOK, dict(type='Watcher')],
        load_from=str(tmp_path / 'slow' / 'epoch_1.pth'),
        **{'train_cfg.max_epochs': 1},
    )
    assert same(Watcher.seen[0][1], slow)

    # And a test after the training, in the same Runner, sees the slow ones too.
    assert same(
        copies(runner),
        {
            name: own['fast_state_dict'].get(name, value)
            for name, value in own['state_dict'].items()
            if name in dict(runner.model.named_parameters())
        },
    )


def test_lookahead_alone_goes_well_with_ema(toy_configs, tmp_path):
    run(
        toy_configs / 'toy.py',
        tmp_path / 'w',
        hooks=[dict(type='EMAHook', momentum=0.1)],
        **{'train_cfg.max_epochs': 1},
    )
    checkpoint = torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=False)
    assert 'ema_state_dict' in checkpoint
    assert not same(
        {'head.weight': checkpoint['state_dict']['head.weight']},
        {'head.weight': checkpoint['ema_state_dict']['module.head.weight']},
    )


@pytest.mark.parametrize(
    ('hooks', 'wrapper', 'text'),
    [
        ([HOOK], dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)), 'has no Lookahead'),
        ([HOOK, dict(type='EMAHook')], UPDATE, 'the EMAHook evaluates and saves its average'),
    ],
)
def test_what_it_does_not_go_with(toy_configs, tmp_path, hooks, wrapper, text):
    with pytest.raises(ValueError, match=f'SlowWeightsHook: .*{text}'):
        run(toy_configs / 'toy.py', tmp_path / 'w', hooks=hooks, optim_wrapper=wrapper)
