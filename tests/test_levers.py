"""Every pair of levers, from configs through the Runner: finite losses, and the same bits when repeated or resumed."""

import itertools
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from at_night import at_night
from mmengine.config import Config
from processes import run_tool

from hybridcls.compat.torch_compiler import COMPILES_THAWED_WEIGHTS, compiler_counts, missing_for_inductor
from hybridcls.engine import TrainOptions, build_runner, prepare_training, run_training
from hybridcls.engine.config import load_config
from hybridcls.engine.runner.global_instances import isolated_globals

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_convnext'), vit=dict(model_name='test_vit')),
    neck=dict(type='DHAFusion', fusion_dim=8), head=dict(type='LinearHead'))
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), drop_last=True,
    dataset=dict(type='Digits', indices=32, pipeline=[
        dict(type='ResizeToSize', img_size=32), dict(type='RandomAffine', degrees=9), dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), stages=dict())
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, save_optimizer=True))
custom_hooks = []
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
TEACHER = CONFIG + "\nmodel['backbone'].pop('vit')\nmodel['backbone']['cnn'] = dict(model_name='test_resnet')\n"


def hook(**settings):
    return lambda cfg: cfg.custom_hooks.append(settings)


def key(path, value):
    return lambda cfg: cfg.merge_from_dict({path: value})


def distil(cfg):
    cfg.custom_hooks.append(
        dict(type='DistillationHook', teacher=cfg.teacher, teacher_checkpoint=cfg.teacher_checkpoint)
    )


def search_old_index(cfg):
    cfg.custom_hooks.append(
        dict(type='BackwardCompatHook', old=cfg.teacher_checkpoint, loss=dict(alignment_weight=0.5), classifier='head')
    )


LEVERS = {
    'cbam': key('model.backbone.use_cbam', True),
    'token learner': key('model.backbone.token_learner_tokens', dict(num_tokens=4, after_block=3)),
    'token merging': key('model.backbone.token_merging_ratio', 0.2),
    'lora': key('model.backbone.lora_rank', 2),
    'sam': key('optim_wrapper.stages.sam', dict(type='SAM', rho=0.05)),
    'msam': key('optim_wrapper.stages.msam', dict(type='MSAM')),
    'friendly sam': key('optim_wrapper.stages.friendly', dict(type='FriendlySAM')),
    'gc': key('optim_wrapper.stages.gc', dict(type='GradientCentralization')),
    'lookahead': key('optim_wrapper.stages.lookahead', dict(type='Lookahead', k=2)),
    'distillation': distil,
    'backward compat': search_old_index,
    'ema': hook(type='EMAHook', momentum=0.1),
    'bfloat16': key('optim_wrapper.amp', 'bfloat16'),
    'accumulation': key('optim_wrapper.accumulative_counts', 2),
    'clipping': key('optim_wrapper.clip_grad', dict(max_norm=1.0)),
    'grad cache': key('model.grad_cache', dict(micro_batch=3)),
    'adaface': key('model.head', dict(type='AdaFaceHead', scale=16.0)),
    'evidential': key('model.head', dict(type='EvidentialHead')),
    'mixup': key('model.train_cfg', dict(augments=[dict(type='Mixup', alpha=1.0)])),
}
# Margins need the one class of an image; two heads are MultiHead's affair; one ascent an update.
IMPOSSIBLE = {
    ('adaface', 'evidential'),
    ('adaface', 'mixup'),
    ('sam', 'msam'),
    ('sam', 'friendly sam'),
    ('msam', 'friendly sam'),
}
PAIRS = {pair for pair in itertools.combinations(LEVERS, 2) if pair not in IMPOSSIBLE}
SIZE = 6  # levers at once; a run for each single pair would take minutes


def covering_groups():
    """Groups of levers in which every possible pair occurs at least once; the greedy choice, always the same."""
    left, groups = set(PAIRS), []
    while left:
        group = list(min(left))
        while len(group) < SIZE:
            gains = {
                lever: sum(tuple(sorted((lever, other), key=list(LEVERS).index)) in left for other in group)
                for lever in LEVERS
                if lever not in group and not any(set(bad) <= {lever, *group} for bad in IMPOSSIBLE)
            }
            group.append(max(gains, key=gains.get))
        group.sort(key=list(LEVERS).index)
        left -= set(itertools.combinations(group, 2))
        groups.append(tuple(group))
    return groups


GROUPS = covering_groups()


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('levers')
    (folder / 'student.py').write_text(CONFIG)
    (folder / 'teacher.py').write_text(TEACHER)
    from hybridcls.engine.distillation.teacher_model import build_teacher

    state = build_teacher(str(folder / 'teacher.py'), with_weights=False).state_dict()
    text = load_config(folder / 'teacher.py').pretty_text
    names = dict(dataset_meta=dict(classes=list('0123456789')))
    torch.save(dict(state_dict=state, meta=dict(cfg=text, **names)), folder / 'teacher.pth')
    return folder


@pytest.fixture(scope='module')
def plain(configs):
    return load_config(configs / 'student.py')


def with_levers(plain, configs, levers):
    if 'lora' in levers:
        pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    cfg = Config(deepcopy(plain._cfg_dict), filename=plain.filename)
    cfg.teacher, cfg.teacher_checkpoint = str(configs / 'teacher.py'), str(configs / 'teacher.pth')
    for lever in levers:
        LEVERS[lever](cfg)
    cfg.pop('teacher')
    cfg.pop('teacher_checkpoint')
    if 'num_classes' not in cfg.model.head:
        cfg.model.head.num_classes = 10
    return cfg


def train(cfg, work_dir, resume=None, epochs=1, stop=None):
    with isolated_globals():
        cfg.train_cfg.max_epochs = epochs
        if stop is not None:
            cfg.custom_hooks.append(dict(type='StopHook', epoch=stop))
        runner = build_runner(prepare_training(cfg, TrainOptions(resume=resume), str(work_dir)))
        run_training(runner)
    return runner


def test_every_pair_is_covered():
    assert {pair for group in GROUPS for pair in itertools.combinations(group, 2)} == PAIRS


REPEATED = GROUPS[::6]  # at night all of them


def test_every_lever_is_in_the_gate():
    assert {lever for group in GROUPS[::2] for lever in group} == set(LEVERS)


@pytest.mark.slow
@pytest.mark.parametrize('group', at_night(GROUPS, *GROUPS[1::2]), ids=' + '.join)
def test_pair_of_levers(group, plain, configs, tmp_path):
    check_trainings(with_levers(plain, configs, group), tmp_path, 2 if group in REPEATED else 1)


@pytest.mark.nightly
@pytest.mark.parametrize('group', [group for group in GROUPS if group not in REPEATED], ids=' + '.join)
def test_pair_of_levers_twice(group, plain, configs, tmp_path):
    check_trainings(with_levers(plain, configs, group), tmp_path, 2)


def check_trainings(cfg, tmp_path, count):
    """Train as often: numbers are finite, and the same to the bit."""
    cfg.default_hooks.checkpoint.interval = -1
    states = []
    for attempt in range(count):
        runner = train(deepcopy(cfg), tmp_path / str(attempt))
        assert runner.message_hub.get_scalar('train/loss').current() < 1e3
        states.append(runner.model.state_dict())
    for state in states:
        for (name, value), other in zip(states[0].items(), state.values(), strict=True):
            assert value.isfinite().all(), name
            assert torch.equal(value, other), name


@pytest.mark.parametrize(
    'levers',
    [
        pytest.param(
            ('lora', 'token merging', 'sam', 'gc', 'lookahead', 'distillation', 'ema', 'clipping', 'cbam', 'adaface'),
            marks=pytest.mark.slow,
            id='ten',
        ),
        pytest.param(
            ('token learner', 'grad cache', 'evidential', 'mixup', 'bfloat16', 'accumulation', 'sam', 'lookahead'),
            marks=pytest.mark.nightly,
            id='eight',
        ),
    ],
)
def test_resumed_run_with_many_levers_ends_in_the_same_bits(levers, plain, configs, tmp_path, toy_plugin_of_engine):
    cfg = with_levers(plain, configs, levers)
    train(deepcopy(cfg), tmp_path / 'straight', epochs=3)
    with pytest.raises(toy_plugin_of_engine.Stopped):
        train(deepcopy(cfg), tmp_path / 'w', epochs=3, stop=2)
    train(deepcopy(cfg), tmp_path / 'w', resume='auto', epochs=3)
    straight, resumed = (torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False) for name in ('straight', 'w'))
    for part in ('state_dict', 'ema_state_dict'):
        for name, value in straight.get(part, {}).items():
            assert torch.equal(value, resumed[part][name]), f'{part}: {name}'


COMPILED = [
    ('lora', 'cbam', 'token merging', 'sam', 'gc', 'lookahead', 'distillation', 'ema', 'clipping', 'adaface'),
    ('token learner', 'grad cache', 'evidential', 'mixup', 'bfloat16', 'accumulation', 'friendly sam'),
]


@pytest.mark.skipif(not COMPILES_THAWED_WEIGHTS, reason='refused with this torch')
@pytest.mark.parametrize(
    'levers',
    [
        pytest.param(COMPILED[0], marks=pytest.mark.slow, id='ten'),
        pytest.param(COMPILED[1], marks=pytest.mark.nightly, id='seven'),
        *(pytest.param(group, marks=pytest.mark.nightly, id=' + '.join(group)) for group in GROUPS),
    ],
)
def test_compiled_streams_train_to_the_same_bits_without_breaks(levers, plain, configs, tmp_path):
    cfg = with_levers(plain, configs, levers)
    cfg.model.backbone.cnn.update(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    cfg.model.backbone.vit.update(depth=4, embed_dim=32, num_heads=2)
    cfg.train_dataloader.update(drop_last=False, dataset={**cfg.train_dataloader.dataset, 'indices': 36})
    torch.compiler.reset()
    before, states = compiler_counts(), []
    for compiled in (False, dict(backend='eager')):
        cfg.env_cfg.compile_streams = compiled
        states.append(train(deepcopy(cfg), tmp_path / str(bool(compiled))).model.state_dict())
    assert list(states[0]) == list(states[1])
    for (name, value), other in zip(states[0].items(), states[1].values(), strict=True):
        assert torch.equal(value, other), name
    after = compiler_counts()
    assert after.breaks == before.breaks
    # Two streams, and again for the last batch, of 4 instead of 8 images; a gradient cache calls them without gradient.
    assert after.graphs - before.graphs == (6 if 'grad cache' in levers else 4)


@pytest.fixture
def toy_plugin_of_engine(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / 'test_engine'))
    import toy_plugin

    return toy_plugin


IN_TWO = ('lora', 'token merging', 'sam', 'gc', 'lookahead', 'distillation', 'cbam', 'adaface')


def train_in_two(cfg, work_dir, *options):
    """Train in two processes; return the last checkpoint."""
    file = work_dir.with_suffix('.py')
    cfg.dump(str(file))
    run_tool('train.py', file, '--work-dir', work_dir, *options, count=2, timeout=900)
    return torch.load(work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth', weights_only=False)['state_dict']


@pytest.mark.slow
@pytest.mark.dist
def test_many_levers_in_two_processes(plain, configs, tmp_path):
    """Without find_unused_parameters; both processes end with the same weights (DDP would stop at a difference)."""
    cfg = with_levers(plain, configs, IN_TWO)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01)
    state = train_in_two(cfg, tmp_path / 'w')
    assert all(value.isfinite().all() for value in state.values())
    assert any('.lora_B.' in name and value.abs().sum() > 0 for name, value in state.items())


@pytest.mark.nightly
@pytest.mark.dist
@pytest.mark.parametrize('backend', ['eager', 'inductor'])
def test_compiled_levers_in_two_processes_end_as_uncompiled_ones_and_resume(plain, configs, tmp_path, backend):
    if not COMPILES_THAWED_WEIGHTS or missing_for_inductor('cpu'):
        pytest.skip('streams cannot be compiled for a training here')
    cfg = with_levers(plain, configs, IN_TWO)
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01)
    cfg.model.backbone.vit.drop_path_rate = 0.0  # inductor draws its own random numbers
    cfg.train_cfg.max_epochs = 2
    states = []
    for compiled in (False, dict(backend=backend)):
        cfg.env_cfg.compile_streams = compiled
        states.append(train_in_two(cfg, tmp_path / str(bool(compiled))))
    states.append(train_in_two(cfg, tmp_path / 'resumed', '--resume', tmp_path / 'True' / 'epoch_1.pth'))
    plainly, compiled, resumed = states
    assert list(plainly) == list(compiled) == list(resumed)
    for name, value in plainly.items():
        exact = dict(rtol=0, atol=0) if backend == 'eager' else dict(rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(compiled[name], value, **exact, msg=lambda text, name=name: f'{name}: {text}')
        assert torch.equal(resumed[name], compiled[name]), name


@pytest.mark.nightly
@pytest.mark.dist
@pytest.mark.parametrize('ascent', ['msam', 'friendly sam'])
def test_two_processes_resume_within_an_accumulation(plain, configs, tmp_path, ascent):
    """An epoch has two iterations a process, an update takes three: the first epoch ends between two updates."""
    cfg = with_levers(plain, configs, (ascent, 'bfloat16'))
    cfg.optim_wrapper.accumulative_counts, cfg.train_cfg.max_epochs = 3, 3
    straight = train_in_two(cfg, tmp_path / 'straight')
    resumed = train_in_two(cfg, tmp_path / 'resumed', '--resume', tmp_path / 'straight' / 'epoch_1.pth')
    for name, value in straight.items():
        assert torch.equal(resumed[name], value), name
