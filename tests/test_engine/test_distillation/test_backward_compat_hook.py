"""An old model through the Runner: what it adds, what it leaves alone, what is recorded, and what does not fit."""

import hashlib
import re

import pytest
import torch
from processes import run_processes, run_tool

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.structures import recorded_compatible

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_convnext')),
             neck=dict(type='ConcatFusion', fusion_dim=8), head=dict(type='LinearHead'))
pipeline = [dict(type='ResizeToSize', img_size=32), dict(type='RandomAffine', degrees=9), dict(type='PackInputs')]
train_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='Digits', indices=48, pipeline=pipeline))
plain = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
             dataset=dict(type='Digits', indices=48, pipeline=[pipeline[0], pipeline[-1]]))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
SEVEN = {
    'train_dataloader.dataset.digits': tuple(range(7)),
    'num_classes': 7,
    'model.backbone.cnn.model_name': 'test_resnet',
}


def runner_of(folder, name, hooks=(), go_on=None, rank=None, **options):
    config = folder / f'config{rank}.py'
    config.write_text(CONFIG.replace(", dict(type='RandomAffine', degrees=9)", '') if 'pipeline' in options else CONFIG)
    options.pop('pipeline', None)
    cfg = load_config(config, dict(custom_hooks=list(hooks), **options))
    cfg.custom_hooks = [
        {**hook, 'dataloader': cfg.plain} if hook.get('dataloader') else hook for hook in cfg.get('custom_hooks') or []
    ]
    options = TrainOptions(resume=go_on, launcher=None if rank is None else 'pytorch')
    return build_runner(prepare_training(cfg, options, str(folder / name)))


def train(folder, name, *hooks, **options):
    with isolated_globals():
        runner = runner_of(folder, name, hooks, **options)
        runner.train()
    return runner


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    """An old model of seven digits, and one of ten with the embedding of another width."""
    folder = tmp_path_factory.mktemp('old')
    train(folder, 'seven', **SEVEN)
    train(folder, 'supcon', **{**SEVEN, 'num_classes': None, 'model.head': dict(_delete_=True, type='SupConHead')})
    return folder


def hook(old, name='seven', **more):
    return dict(type='BackwardCompatHook', old=str(old / name), **more)


def checkpoint_of(folder, name='w'):
    return torch.load(folder / name / 'epoch_2.pth', weights_only=False)


def test_off_it_changes_nothing_and_on_it_adds_a_loss_alone(old, tmp_path):
    alone = train(tmp_path, 'alone')
    off = train(tmp_path, 'off', dict(type='BackwardCompatHook'))
    tiny = train(tmp_path, 'tiny', hook(old, dataloader=True, loss=dict(influence_weight=1e-30)))
    for (name, value), other, close in zip(
        alone.model.state_dict().items(), off.model.state_dict().values(), tiny.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
        torch.testing.assert_close(close, value, rtol=0, atol=1e-7, msg=name)  # the same random numbers
    assert recorded_compatible(checkpoint_of(tmp_path, 'alone')) == recorded_compatible(checkpoint_of(tmp_path, 'off'))
    on = train(tmp_path, 'w', hook(old, dataloader=True))
    assert 'train/loss_influence' in on.message_hub.log_scalars
    assert on.model.state_dict().keys() == alone.model.state_dict().keys()
    assert on.model.backward_compat is None
    groups = [len(group['params']) for group in on.optim_wrapper.param_groups]
    assert groups == [len(group['params']) for group in alone.optim_wrapper.param_groups]


def test_the_checkpoint_names_the_weights_as_an_index_does(old, tmp_path):
    train(tmp_path, 'w', hook(old, classifier='head'), **{'model.neck.fusion_dim': 12})
    (found,) = recorded_compatible(checkpoint_of(tmp_path))
    assert found['width'] == 8
    assert found['checkpoint'] == str(old / 'seven' / 'epoch_2.pth')
    state = torch.load(found['checkpoint'], weights_only=False)['state_dict']
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\0'.encode() + value.numpy().tobytes())
    assert found['digest'] == digest.hexdigest()


def test_before_the_first_update_nothing_is_compatible(old, tmp_path):
    with isolated_globals():
        runner = runner_of(tmp_path, 'w', [hook(old, classifier='head')], max_epochs=1)
        runner.call_hook('before_run')
        runner.train()
    one = next(one for one in runner.hooks if type(one).__name__ == 'BackwardCompatHook')
    checkpoint: dict = {}
    runner.train_loop._iter = 0
    one.before_save_checkpoint(runner, checkpoint)
    assert recorded_compatible(checkpoint) == []


def terms_of(runner):
    return next(one for one in runner.hooks if type(one).__name__ == 'BackwardCompatHook')._terms


@pytest.mark.parametrize('name', ['seven', 'supcon'])
def test_unknown_classes_and_heads_without_classes_take_prototypes(old, tmp_path, name):
    terms = terms_of(train(tmp_path, 'w', hook(old, name, dataloader=True), max_epochs=1))
    assert terms.prototypes.shape == (10, 8)
    assert terms.old_classes.tolist() == list(range(10))
    torch.testing.assert_close(terms.prototypes.norm(dim=1), torch.ones(10))


def test_the_head_is_asked_for_the_classes_that_it_knows_by_name(old, tmp_path):
    odd = {'train_dataloader.dataset.digits': (1, 3, 5, 9), 'num_classes': 4, 'max_epochs': 1}
    terms = terms_of(train(tmp_path, 'w', hook(old, classifier='head'), **odd))
    assert terms.old_classes.tolist() == [1, 3, 5, -1]
    assert terms.prototypes is None


def test_resumed_in_the_middle_it_ends_in_the_same_bits(old, tmp_path, toy_plugin):
    compat = hook(old, dataloader=True, loss=dict(alignment_weight=0.5))
    stages = dict(optim_wrapper=dict(stages=dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=2))))
    straight = train(tmp_path, 'straight', compat, **stages)
    with pytest.raises(toy_plugin.Stopped):
        train(tmp_path, 'w', compat, dict(type='StopHook', epoch=1), **stages)
    resumed = train(tmp_path, 'w', compat, go_on='auto', **stages)
    for (name, value), other in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


def test_mixed_precision_and_an_average(old, tmp_path):
    runner = train(
        tmp_path,
        'w',
        hook(old, classifier='head', loss=dict(alignment_weight=1.0)),
        dict(type='EMAHook', momentum=0.1),
        **{'optim_wrapper.amp': 'bfloat16'},
    )
    for name in ('influence', 'alignment'):
        assert 0 < runner.message_hub.get_scalar(f'train/loss_{name}').current() < 10
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model
    assert averaged.module.backward_compat is None


def process_trains(rank, folder, old):
    plain = {'train_dataloader.batch_size': 8, 'pipeline': None}
    runner = train(folder, 'two', hook(old, dataloader=True), rank=rank, **plain)
    if rank == 0:
        torch.save(runner.model.module.state_dict(), folder / 'two.pth')


@pytest.mark.nightly
@pytest.mark.dist
def test_two_processes_compute_what_one_does(old, tmp_path):
    run_processes(process_trains, tmp_path, old)
    one = train(tmp_path, 'one', hook(old, dataloader=True), pipeline=None)
    two = torch.load(tmp_path / 'two.pth')
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ('more', 'options', 'said'),
    [
        (
            dict(),
            {'model.neck.fusion_dim': 4},
            'expected embeddings of at least 8 numbers, as the old model has, got 4',
        ),
        (dict(), {}, 'expected a dataloader of the training images, without augmentation'),
        (dict(classifier='none'), {}, "classifier must be 'auto'|classifier"),
        (dict(loss=dict(influence=1)), {}, 'influence'),
    ],
)
def test_what_does_not_fit_is_said_before_training(old, tmp_path, more, options, said):
    with isolated_globals(), pytest.raises((ValueError, TypeError), match=said):
        runner_of(tmp_path, 'w', [hook(old, **more)], **options).train()


def test_no_old_checkpoint(tmp_path):
    with isolated_globals(), pytest.raises(FileNotFoundError, match='nowhere'):
        runner_of(tmp_path, 'w', [dict(type='BackwardCompatHook', old='nowhere.pth')]).train()


@pytest.mark.nightly
def test_new_queries_find_more_in_the_old_index_and_less_is_lost_than_a_point(tmp_path):
    """The shipped example: old digits of seven classes, a new model of ten."""
    said = run_tool('benchmark.py', 'backward_compat', '--seeds', '1', folder=tmp_path, timeout=3600)
    found = {name.strip(): float(value) for name, value in re.findall(r'^(\w+ -> \w+) +recall@1 ([\d.]+)', said, re.M)}
    assert found['new -> old'] >= found['old -> old']
    assert found['new -> new'] >= found['alone -> alone'] - 1
    assert found['alone -> old'] < found['old -> old'] - 20  # without the loss the two have nothing in common
