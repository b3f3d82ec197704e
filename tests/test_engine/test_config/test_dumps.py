"""A config that a run has dumped: resolved for other tools, and read by ours as it was before it was completed."""

from copy import deepcopy

import pytest
from config_helpers import loaded, write
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine import TrainOptions, load_config, prepare_training
from hybridcls.engine.config import provenance_of

CONFIGS = ['digits/ce_hybrid.py', 'digits/supcon_hybrid.py', 'digits/ce_vit.py', 'digits/adaface_hybrid.py']


@pytest.fixture(scope='module')
def dumps(tmp_path_factory):
    """The dump of each config, after a training was prepared with options that change much."""
    folder = tmp_path_factory.mktemp('dumps')
    made = {}
    for name in CONFIGS:
        cfg = load_config(config_path(name), {'model.backbone.use_cbam': True})
        options = TrainOptions(amp=True, auto_scale_lr=True, validate=False, pin_memory=False)
        prepare_training(cfg, options, str(folder / 'work'))
        made[name] = folder / name.replace('/', '_')
        cfg.dump(str(made[name]))
    return made


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('options', [
    {}, {'img_size': 64}, {'max_epochs': 1}, {'lr': 0.1, 'batch_size': 8},
    {'seed': 3, 'train_dataloader.batch_size': 4},
    {'train_cfg.by_epoch': False, 'train_cfg.max_iters': 9}, {'train_pipeline.0.type': 'CenterCropToSize'},
    {'model.head': dict(_delete_=True, type='LinearHead'), 'num_classes': 5}, {'val_dataloader': None},
])  # fmt: skip
def test_the_dump_with_an_option_is_the_config_with_it(dumps, name, options):
    again = load_config(dumps[name], deepcopy(options))
    expected = load_config(config_path(name), {'model.backbone.use_cbam': True, **deepcopy(options)})
    assert again.to_dict() == expected.to_dict()


def test_the_dump_holds_what_is_built_and_why(dumps):
    cfg = Config.fromfile(str(dumps['digits/ce_hybrid.py']))
    assert cfg.model.type == 'hybridcls.HybridClassifier'
    assert cfg.model.backbone.img_size == 32
    assert cfg.test_dataloader.dataset.pipeline[0] == dict(type='hybridcls.ResizeToSize', img_size=32)
    assert cfg.test_evaluator[0].type == 'hybridcls.Accuracy'
    whys = {row['path']: row['why'] for row in cfg.filled if 'path' in row}
    assert whys['model.backbone.img_size'] == 'top-level img_size'
    assert whys['optim_wrapper.amp'] == '--amp'


def test_what_a_child_of_a_dump_writes_is_what_is_built(dumps, tmp_path):
    text = f'_base_ = {str(dumps["digits/ce_hybrid.py"])!r}\nimg_size = 64\nlr = 0.5\n'
    child = "model = dict(backbone=dict(img_size=48))\nval_pipeline = [dict(type='CenterCropToSize')]\n"
    cfg = load_config(write(tmp_path, 'child.py', text + child))
    assert cfg.model.backbone.img_size == 48
    assert cfg.train_dataloader.dataset.pipeline[0].img_size == 64
    assert cfg.val_dataloader.dataset.pipeline == [dict(type='CenterCropToSize', img_size=64)]
    assert cfg.optim_wrapper.optimizer.lr == 0.5


def test_an_adapted_schedule_is_adapted_again(tmp_path):
    cfg = load_config(config_path('digits/ce_hybrid.py'), dict(max_epochs=1))
    prepare_training(cfg, TrainOptions(), str(tmp_path / 'work'))
    assert cfg.param_scheduler[1].begin == 0.2
    cfg.dump(str(tmp_path / 'dump.py'))
    again = prepare_training(load_config(tmp_path / 'dump.py', dict(max_epochs=2)), TrainOptions(), str(tmp_path / 'w'))
    assert again.param_scheduler[0].end == again.param_scheduler[1].begin == 0.4


def test_values_of_the_machine_are_not_taken_from_a_dump(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = loaded(tmp_path, base='train_dataloader = dict(num_workers=2)\nmodel = dict()\n')
    assert cfg.train_dataloader.pin_memory
    from hybridcls.engine.training import _finish

    _finish(cfg).dump(str(tmp_path / 'dump.py'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    again = load_config(tmp_path / 'dump.py')
    assert again.train_dataloader.pin_memory is False
    assert not provenance_of(again).notes


def dumped(cfg, path):
    """Write a config as `Config.dump` does, but for the layout, which takes most of the time."""
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items()))
    return path


def prepared(folder, child='', options=None):
    base = f'_base_ = {config_path("digits/ce_hybrid.py")!r}\n'
    cfg = load_config(write(folder, 'child.py', f'{base}{child}'), options)
    return prepare_training(cfg, TrainOptions(), str(folder / 'work'))


def test_what_is_changed_in_a_dump_by_hand_is_written(tmp_path):
    """Only what still is what was filled in is filled in again."""
    cfg = prepared(tmp_path)
    cfg.model.backbone.img_size = 48
    cfg.train_dataloader.batch_size = 16
    del cfg.optim_wrapper.optimizer['lr']
    cfg.custom_hooks.append(dict(type='EMAHook'))
    again = load_config(dumped(cfg, tmp_path / 'dump.py'), dict(img_size=24, batch_size=32, lr=0.5))
    assert again.model.backbone.img_size == 48
    assert again.val_dataloader.dataset.pipeline[0].img_size == 24
    assert (again.train_dataloader.batch_size, again.val_dataloader.batch_size) == (16, 32)
    assert again.optim_wrapper.optimizer.lr == 0.5
    assert again.custom_hooks[-1].type == 'EMAHook'


def test_a_rate_that_was_scaled_and_then_changed_by_hand_stays(tmp_path):
    cfg = load_config(config_path('digits/ce_hybrid.py'), {'optim_wrapper.accumulative_counts': 4})
    prepare_training(cfg, TrainOptions(auto_scale_lr=True), str(tmp_path / 'work'))
    assert cfg.optim_wrapper.optimizer.lr == 4 * cfg.lr
    assert load_config(dumped(cfg, tmp_path / 'dump.py')).optim_wrapper.optimizer.lr == cfg.lr
    cfg.optim_wrapper.optimizer.lr = 0.3
    assert load_config(dumped(cfg, tmp_path / 'dump.py')).optim_wrapper.optimizer.lr == 0.3


def test_keys_with_dots_are_found_again(tmp_path):
    child = "mult = dict(lr_mult=0.1)\noptim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.cnn': mult}))\n"
    again = load_config(dumped(prepared(tmp_path, child), tmp_path / 'dump.py'), {'mult.lr_mult': 0.5})
    assert again.optim_wrapper.paramwise_cfg.custom_keys == {'backbone.cnn': dict(lr_mult=0.5)}


@pytest.mark.parametrize('suffix', ['yaml', 'json'])
def test_dumps_that_are_not_python(tmp_path, suffix):
    cfg = prepared(tmp_path)
    cfg.dump(str(tmp_path / f'dump.{suffix}'))
    again = load_config(tmp_path / f'dump.{suffix}', dict(img_size=64))
    assert again.model.backbone.img_size == again.val_dataloader.dataset.pipeline[0].img_size == 64
    assert 'custom_hooks' not in again


@pytest.mark.parametrize('value', ['True', '[1, 2]', 'dict(a=1)', '[dict(path="x")]'])
def test_a_variable_of_the_name_of_the_record_is_a_variable(tmp_path, value):
    assert str(loaded(tmp_path, base=f'filled = {value}\nmodel = dict(a=filled)\n').filled) == str(eval(value))


def test_a_dump_of_a_dump_says_the_same(tmp_path):
    cfg = prepared(tmp_path)
    path = dumped(cfg, tmp_path / 'dump.py')
    again = prepare_training(load_config(path), TrainOptions(), str(tmp_path / 'work'))
    as_set = [sorted(map(repr, one.filled)) for one in (cfg, again)]
    assert as_set[0] == as_set[1]
    for one in (cfg, again):
        one.pop('filled')
    assert cfg.to_dict() == again.to_dict()


def test_what_was_written_inside_a_place_stays_when_the_variable_of_a_dump_changes(tmp_path):
    child = "val_dataloader = dict(dataset=dict(split='train'))\n"
    options = {'val_dataloader.dataset.pipeline.0.img_size': 24}
    path = dumped(prepared(tmp_path, child, options), tmp_path / 'dump.py')
    new = {'val_pipeline.1.meta_keys': ['sample_idx']}
    again = load_config(path, new)
    assert again.val_dataloader.dataset.pipeline[0].img_size == 24
    assert again.to_dict() == load_config(tmp_path / 'child.py', {**options, **new}).to_dict()
