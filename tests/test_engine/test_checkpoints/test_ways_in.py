"""Every way a checkpoint comes in: none runs what is in it, all find the weights, and sizes are fitted."""

import os

import pytest
import torch
from at_night import at_night
from mmengine.registry import DefaultScope
from timm.layers import resample_abs_pos_embed
from toy_runs import run_test, train

from hybridcls.engine import (
    TrainOptions,
    WeightMismatchError,
    load_config,
    run_chain,
    transfer_weights,
)
from hybridcls.engine.distillation.teacher_model import build_teacher
from hybridcls.models.backbones import TimmStream
from hybridcls.registry import MODELS

VIT = dict(model_name='vit_tiny_patch16_224', depth=1, embed_dim=24, num_heads=2)


def hybrid(size, **backbone):
    vit = dict(VIT, img_size=size)
    return dict(
        type='HybridClassifier',
        backbone=dict(type='HybridBackbone', vit=vit, **backbone),
        neck=dict(type='ConcatFusion'),
        head=dict(type='LinearHead', num_classes=2),
    )


def build(cfg):
    with DefaultScope.overwrite_default_scope('hybridcls'):
        return MODELS.build(cfg)


def drawn(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


class Touch:
    """Pickles as a command, several ways."""

    def __init__(self, path, function=os.system):
        self.path, self.function = path, function

    def __reduce__(self):
        return self.function, (f'touch {self.path}' if self.function is os.system else f'open({self.path!r}, "w")',)


@pytest.fixture
def trained(toy_configs, tmp_path):
    """The content of a checkpoint that can be resumed."""
    train(toy_configs / 'toy.py', tmp_path / 'first', **{'train_cfg.max_epochs': 2})
    return torch.load(tmp_path / 'first' / 'epoch_1.pth', weights_only=True)


@pytest.mark.parametrize('zipped', [True, False])
def test_no_way_in_runs_what_is_in_a_file(toy_configs, tmp_path, trained, zipped):
    canary = tmp_path / 'canary'
    evil = [Touch(str(canary)), Touch(str(canary), eval), {1: {2: (Touch(str(canary)),)}}]

    def planted(content, name):
        torch.save(dict(content, evil=evil), tmp_path / name, _use_new_zipfile_serialization=zipped)
        return str(tmp_path / name)

    toy = planted(dict(trained, meta=dict(trained['meta'], evil=evil)), 'toy.pth')
    with pytest.raises(ValueError, match=r'what a resume needs, got an object of .*--trust-checkpoint'):
        train(toy_configs / 'toy.py', tmp_path / 'resumed', toy)
    code = f"open({str(canary)!r}, 'w')"
    for key in ('cfg', 'config'):  # mmengine's resume runs the second
        trained['meta'][key] = code
    torch.save(dict(trained, meta=dict(trained['meta'], evil=evil)), tmp_path / 'r.pth')
    train(toy_configs / 'toy.py', tmp_path / 'resumed', str(tmp_path / 'r.pth'))
    assert run_test(toy_configs / 'toy.py', toy, tmp_path / 'test')['toy/top1'] > 0
    train(toy_configs / 'toy.py', tmp_path / 'second', **{'load_from': toy, 'train_cfg.max_epochs': 1})
    chain = f"phases = [dict(name='one', config='toy.py', load={toy!r}, cfg_options={{'train_cfg.max_epochs': 1}})]"
    (toy_configs / 'c.py').write_text(chain)
    run_chain(load_config(toy_configs / 'c.py'), TrainOptions(), str(tmp_path / 'chain'))
    stream = TimmStream(img_size=64, **VIT)
    TimmStream(img_size=64, checkpoint_path=planted(dict(model=stream.model.state_dict()), 'stream.pth'), **VIT)
    model = build(hybrid(64))
    member = planted(dict(state_dict=model.state_dict()), 'member.pth')
    build(dict(hybrid(64), type='EnsembleClassifier', members=[member]))
    build_teacher(hybrid(64), member)
    transfer_weights(model, member)
    assert not canary.exists()


@pytest.mark.parametrize(
    'key',
    at_night(['model', 'model_state_dict', 'net', 'state_dict_ema', None], 'model_state_dict', 'net'),
)
def test_all_ways_find_the_weights_in_every_container(toy_configs, tmp_path, trained, key):
    weights = {f'module.{name}': value for name, value in trained['state_dict'].items()}
    file = str(tmp_path / 'm.pth')
    torch.save(weights if key is None else {key: weights}, file, _use_new_zipfile_serialization=False)
    still = {'load_from': file, 'train_cfg.max_epochs': 1, 'optim_wrapper.optimizer.lr': 0.0}
    for hooks in ([], [dict(type='EMAHook')], [dict(type='TransferHook', parts=None)]):
        runner = train(toy_configs / 'toy.py', tmp_path / 'w', custom_hooks=hooks, **still)
        torch.testing.assert_close(runner.model.head.weight.data, trained['state_dict']['head.weight'])
    assert run_test(toy_configs / 'toy.py', file, tmp_path / 't')['toy/top1'] > 80


class Told:
    """Collects what a run logs."""

    def __init__(self, work_dir):
        self.text = '\n'.join(path.read_text() for path in sorted(work_dir.rglob('*.log')))


@pytest.fixture
def sized(tmp_path):
    """Configs of one model at 64 and at 96 pixels, and the weights of the first."""
    text = """
default_scope = 'hybridcls'
model = {model}
pipeline = [dict(type='ResizeToSize', img_size={size}), dict(type='PackInputs')]
train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', indices=8, pipeline=pipeline))
test_dataloader = train_dataloader
test_evaluator = dict(type='Accuracy')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
"""
    for size in (64, 96):
        model = hybrid(size)
        model['head']['num_classes'] = 10
        (tmp_path / f's{size}.py').write_text(text.format(model=model, size=size))
    model['backbone']['vit']['img_size'] = 64
    state = drawn(build(model)).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'small.pth')
    return tmp_path, model, state


def test_weights_of_another_size_are_resized_and_told(sized):
    folder, model, state = sized
    name = 'backbone.vit.model.pos_embed'
    expected = resample_abs_pos_embed(state[name], [6, 6])
    small, large = str(folder / 'small.pth'), folder / 's96.py'
    told = f'resized: {name} from (1, 17, 24) to (1, 37, 24)'
    for number, hooks in enumerate(([], [dict(type='TransferHook')])):
        runner = train(large, folder / str(number), load_from=small, custom_hooks=hooks)
        torch.testing.assert_close(runner.model.state_dict()[name], expected, rtol=0, atol=0)
        text = Told(folder / str(number)).text
        assert told in text
        assert ('All ' in text) == (not hooks), text  # the head of the second is new
    run_test(large, small, folder / 'test')
    assert told in Told(folder / 'test').text
    assert f'All {len(state)} weights of the model come from {small}' in Told(folder / 'test').text
    model['backbone']['vit']['img_size'] = 96
    torch.testing.assert_close(build_teacher(model, small).state_dict()[name], expected, rtol=0, atol=0)
    ensemble = build(dict(model, type='EnsembleClassifier', members=[small]))
    torch.testing.assert_close(ensemble.members[0].state_dict()[name], expected, rtol=0, atol=0)
    report = transfer_weights(ensemble.members[0], small)
    assert told in str(report)


def test_a_resume_resizes_nothing(sized):
    folder, _, _ = sized
    train(folder / 's64.py', folder / 'w')
    with pytest.raises(WeightMismatchError, match=r'have another shape \(first: backbone\.vit\.model\.pos_embed'):
        train(folder / 's96.py', folder / 'w2', str(folder / 'w' / 'epoch_1.pth'))


def test_the_report_counts_what_is_new(toy_configs, tmp_path, trained):
    """With TransferHook, the dict that the Runner loads is complete; three of its weights are initial ones."""
    torch.save(dict(state_dict=trained['state_dict']), tmp_path / 'm.pth')
    hooks = [dict(type='TransferHook', parts=['backbone'])]
    still = {'load_from': str(tmp_path / 'm.pth'), 'train_cfg.max_epochs': 1, 'log_level': 'INFO'}
    train(toy_configs / 'toy.py', tmp_path / 'w', custom_hooks=hooks, **still)
    text = Told(tmp_path / 'w').text
    assert 'All ' not in text
    assert '7 weights loaded (backbone 7)\n  4 new, with their initial values (neck 2, head 2)' in text


def test_what_a_model_resizes_by_itself_counts_as_loaded(sized):
    folder, _, _ = sized
    vit = dict(type='mmpretrain.VisionTransformer', arch='deit-tiny', patch_size=16, out_type='cls_token')
    head = dict(type='LinearClsHead', num_classes=10, in_channels=192)
    for size in (64, 96):
        model = dict(_delete_=True, type='ImageClassifier', backbone=dict(vit, img_size=size), head=head)
        norm = dict(num_classes=10, mean=[0.0] * 3, std=[255.0] * 3)
        text = f"_base_ = 's{size}.py'\nmodel = {model}\ndata_preprocessor = {norm}\n"
        (folder / f'm{size}.py').write_text(text)
    state = build(load_config(folder / 'm64.py').model).state_dict()
    torch.save(dict(state_dict=state), folder / 'm.pth')
    run_test(folder / 'm96.py', str(folder / 'm.pth'), folder / 'test')
    assert f'All {len(state)} weights of the model come from' in Told(folder / 'test').text
