"""Files are read one at a time: each leaf keeps the file that wrote it, and variables that change are followed."""

import subprocess
import sys

import pytest
from config_helpers import loaded, write
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine.config import ConfigError, layer_of, load_config, provenance_of
from hybridcls.engine.config.layers import read_layers

BASE = """
train_pipeline = [
    dict(type='LoadImage'), dict(type='RandomCropToSize', crop_ratio_range=(0.1, 1.0)), dict(type='PackInputs')]
val_pipeline = [dict(type='LoadImage')]
dataset_type = 'ImageFolder'
train_dataloader = dict(num_workers=0, dataset=dict(type=dataset_type, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(type=dataset_type, pipeline=val_pipeline))
test_dataloader = val_dataloader
custom_hooks = [dict(type='EmbeddingBankHook', dataloader=dict(dataset=dict(type=dataset_type, pipeline=val_pipeline)))]
"""


@pytest.mark.parametrize('path', ['digits/ce_vit.py', 'digits/supcon_hybrid.py', 'hybrid/supcon_convnext_swin_pk.py',
                                  'hybrid/two_phase_convnext_swin.py'])  # fmt: skip
def test_the_values_are_those_that_mmengine_reads(path):
    """But for what follows a variable, which mmengine leaves as the base computed it."""
    layers = read_layers(config_path(path))
    expected = Config.fromfile(config_path(path)).to_dict()
    assert Config(layers.values).to_dict() == expected
    assert not layers.followed


def test_a_leaf_keeps_the_layer_that_wrote_it(tmp_path):
    write(tmp_path, 'far.py', "model = dict(type='M', a=1, b=dict(c=2, d=[dict(e=3)]))\n")
    write(tmp_path, 'near.py', "_base_ = 'far.py'\nmodel = dict(a=1, b=dict(d=[dict(e=4)]))\n")
    cfg = load_config(
        write(tmp_path, 'mine.py', "_base_ = 'near.py'\nmodel = dict(b=dict(f=5))\n"), {'model.b.d.0.e': 6}
    )
    where = {'type': -2, 'a': -1, 'b.c': -2, 'b.f': 0, 'b.d.0.e': 1}
    for key, rank in where.items():
        path = ('model', *(int(part) if part.isdigit() else part for part in key.split('.')))
        assert layer_of(cfg, path).rank == rank, key
    cfg.model.a = 7
    assert layer_of(cfg, ('model', 'a')).name == 'code'
    assert layer_of(cfg, ('model',)).name == 'code', 'of a dict, the nearest of its leaves'


def test_what_a_child_deletes_is_of_no_layer(tmp_path):
    layers = read_layers(write(tmp_path, 'base.py', 'model = dict(a=1, b=dict(c=2))\n'))
    assert set(layers.origins) == {('model', 'a'), ('model', 'b', 'c')}
    child = write(tmp_path, 'child.py', "_base_ = 'base.py'\nmodel = dict(b=dict(_delete_=True, d=3))\n")
    assert set(read_layers(child).origins) == {('model', 'a'), ('model', 'b', 'd')}


def test_a_delete_that_finds_nothing_to_delete_is_no_key(tmp_path):
    """mmengine leaves it in, and the class that is built gets an argument `_delete_`."""
    write(tmp_path, 'base.py', 'model = dict(a=1, b=dict(c=2))\n')
    text = 'model = dict(b=dict(_delete_=True, d=[dict(_delete_=True, e=4)]), f=dict(_delete_=True, g=5))'
    child = write(tmp_path, 'child.py', f"_base_ = 'base.py'\n{text}\n")
    assert load_config(child).model == dict(a=1, b=dict(d=[dict(e=4)]), f=dict(g=5))
    lazy = write(tmp_path, 'lazy.py', LAZY.replace('from .base import *', 'from .other import *'))
    write(tmp_path, 'other.py', 'max_epochs = 3\n')
    assert '_delete_' not in load_config(lazy).model


def test_a_value_of_a_base_that_is_put_in_is_a_copy(tmp_path):
    """One object in two places would be filled in both, by a step that knows of one."""
    cfg = loaded(tmp_path, 'model = dict(type="A", prototype={{_base_.val_dataloader}})', BASE)
    assert cfg.model.prototype is not cfg.val_dataloader
    assert cfg.val_dataloader.pin_memory is False
    assert 'pin_memory' not in cfg.model.prototype
    assert all(layer_of(cfg, path).name != 'code' for path in provenance_of(cfg).origins)


@pytest.mark.parametrize('how', ['child', 'option', 'entry'])
def test_a_pipeline_that_is_a_variable_of_a_base_can_be_changed(tmp_path, how):
    child = "train_pipeline = [dict(type='LoadImage'), dict(type='RandomCropToSize', crop_ratio_range=(0.5, 1.0))]\n"
    options = {
        'option': {
            'train_pipeline': [dict(type='LoadImage'), dict(type='RandomCropToSize', crop_ratio_range=(0.5, 1.0))]
        },
        'entry': {'train_pipeline.1.crop_ratio_range': (0.5, 1.0)},
    }.get(how)
    cfg = loaded(tmp_path, child if how == 'child' else '', BASE, options)
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert pipeline[1].crop_ratio_range == (0.5, 1.0)
    assert len(pipeline) == (3 if how == 'entry' else 2)
    assert len(cfg.val_dataloader.dataset.pipeline) == 1, 'no other place changes'
    assert any('train_dataloader.dataset.pipeline follows train_pipeline' in n for n in provenance_of(cfg).notes)


@pytest.mark.parametrize('order', [1, -1])
def test_what_an_option_writes_inside_a_place_stays_when_its_variable_changes(tmp_path, order):
    options = [
        ('train_dataloader.dataset.pipeline.1.crop_ratio_range', (0.5, 1.0)),
        ('train_pipeline.0.type', 'LoadOther'),
    ]
    pipeline = loaded(tmp_path, base=BASE, options=dict(options[::order])).train_dataloader.dataset.pipeline
    assert (pipeline[0].type, pipeline[1].crop_ratio_range) == ('LoadOther', (0.5, 1.0))


def test_what_a_file_writes_inside_a_place_stays_when_its_variable_changes(tmp_path):
    write(
        tmp_path,
        'far.py',
        "images = dict(type='A', a=1, b=2, c=[dict(d=3)])\ntrain_dataloader = dict(dataset=images)\n",
    )
    own = 'a=5, e=6, c=[dict(d=7), dict(d=8)]'
    write(tmp_path, 'near.py', f"_base_ = 'far.py'\ntrain_dataloader = dict(dataset=dict({own}))\n")
    child = write(tmp_path, 'child.py', "_base_ = 'near.py'\nimages = dict(a=10, b=11, c=[], f=12)\n")
    cfg = load_config(child)
    assert cfg.train_dataloader.dataset == dict(type='A', a=5, b=11, c=[dict(d=7), dict(d=8)], e=6, f=12)
    where = [layer_of(cfg, ('train_dataloader', 'dataset', key)).rank for key in 'abcef']
    assert where == [-1, 0, -1, -1, 0]
    deleting = "train_dataloader = dict(dataset=dict(_delete_=True, type='B'))"
    write(tmp_path, 'near.py', f"_base_ = 'far.py'\n{deleting}\n")
    assert load_config(child).train_dataloader.dataset == dict(type='B')


def test_variables_of_variables_and_of_names_are_followed_everywhere(tmp_path):
    child = "val_pipeline = [dict(type='PackInputs')]\ndataset_type = 'CustomDataset'\n"
    cfg = loaded(tmp_path, child, BASE)
    loaders = [cfg.val_dataloader, cfg.test_dataloader, cfg.custom_hooks[0].dataloader]
    assert [one.dataset.pipeline[0].type for one in loaders] == ['PackInputs'] * 3
    assert {one.dataset.type for one in [*loaders, cfg.train_dataloader]} == {'CustomDataset'}
    two_views = config_path('digits/supcon_hybrid.py')
    cfg = load_config(two_views, {'view_pipeline.1.degrees': 3})
    assert cfg.train_dataloader.dataset.pipeline[0].transforms[0][1].degrees == 3


@pytest.mark.parametrize('base', ['{{_base_.val_pipeline}}', '_base_.val_pipeline'])
def test_placeholders_of_a_base_are_followed_too(tmp_path, base):
    write(tmp_path, 'base.py', BASE)
    middle = f"_base_ = 'base.py'\nother_dataloader = dict(dataset=dict(pipeline={base}))\n"
    hook = "custom_hooks = [dict(type='H', dataloader=other_dataloader)]\n"
    write(tmp_path, 'middle.py', middle + hook)
    cfg = load_config(write(tmp_path, 'child.py', "_base_ = 'middle.py'\nval_pipeline = [dict(type='X')]\n"))
    assert cfg.custom_hooks[0].dataloader.dataset.pipeline == [dict(type='X')]


def test_a_place_that_is_written_nearer_does_not_follow(tmp_path):
    write(tmp_path, 'base.py', BASE)
    own = "train_dataloader = dict(dataset=dict(pipeline=[dict(type='Mine')]))\n"
    write(tmp_path, 'middle.py', f"_base_ = 'base.py'\n{own}")
    cfg = load_config(write(tmp_path, 'child.py', "_base_ = 'middle.py'\ntrain_pipeline = [dict(type='X')]\n"))
    assert cfg.train_dataloader.dataset.pipeline == [dict(type='Mine')]
    assert 'train_pipeline' in provenance_of(cfg).unread
    one = load_config(write(tmp_path, 'one.py', f"_base_ = 'base.py'\n{own}train_pipeline = [dict(type='X')]\n"))
    assert one.train_dataloader.dataset.pipeline == [dict(type='Mine')]


def test_a_variable_of_the_style_of_mmpretrain_reaches_its_place(tmp_path):
    base = "data_root = 'a'\ntrain_dataloader = dict(dataset=dict(type='CustomDataset', data_root=data_root))\n"
    assert loaded(tmp_path, "data_root = 'b'", base).train_dataloader.dataset.data_root == 'b'
    assert loaded(tmp_path, '', base, {'data_root': 'c'}).train_dataloader.dataset.data_root == 'c'


def test_bases_of_this_package_are_read_like_files(tmp_path):
    for base in ('hybridcls::hybrid/ce_convnext_swin_1gpu.py', config_path('hybrid/ce_convnext_swin_1gpu.py')):
        cfg = load_config(write(tmp_path, 'mine.py', f"_base_ = {base!r}\ndata_root = '/my/images'\n"))
        loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
        assert [loader.dataset.data_root for loader in loaders] == ['/my/images'] * 3


def test_a_scope_that_all_parts_are_of_is_no_key_of_each(tmp_path):
    """mmpretrain's browse_dataset.py builds a dumped visualizer by hand, and would give it ``_scope_``."""
    text = "_base_ = 'hybridcls::digits/ce_hybrid.py'\n"
    cfg = load_config(write(tmp_path, 'mine.py', text))
    assert '_scope_' not in cfg.pretty_text
    assert cfg.visualizer == load_config(config_path('digits/ce_hybrid.py')).visualizer
    other = load_config(write(tmp_path, 'mine.py', f"{text}default_scope = 'mmpretrain'\n"))
    assert other.model._scope_ == 'hybridcls'


def test_the_expression_for_foreign_tools_works_without_importing_us_first(tmp_path):
    file = write(
        tmp_path, 'mine.py', "_base_ = [__import__('hybridcls').config_path('digits/ce_vit.py')]\nmax_epochs = 3\n"
    )
    code = f'from mmengine.config import Config; print(Config.fromfile({str(file)!r}).model.backbone.vit.depth)'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == '4'
    with pytest.raises(FileNotFoundError, match=r"there is no config 'digits/ce_vitt.py'\. Did you mean .*ce_vit"):
        config_path('digits/ce_vitt.py')


def test_a_circle_of_bases(tmp_path):
    write(tmp_path, 'a.py', "_base_ = 'b.py'\n")
    with pytest.raises(ConfigError, match='is among its own bases'):
        load_config(write(tmp_path, 'b.py', "_base_ = 'a.py'\n"))


LAZY = """
from mmengine.config import read_base
with read_base():
    from .base import *
from hybridcls.datasets import ImageFolder
from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.classifiers import HybridClassifier

img_size = 64
data_root = '/my/images'
model = dict(type=HybridClassifier, backbone=dict(type=HybridBackbone, cnn=dict(model_name='test_resnet', img_size=48)))
"""


def test_configs_of_the_lazy_style_are_completed_like_others(tmp_path):
    write(tmp_path, 'base.py', BASE)
    child = "val_pipeline = [dict(type='ResizeToSize')]\n"
    cfg = load_config(write(tmp_path, 'lazy.py', LAZY + child))
    assert cfg.model.backbone.img_size == 64
    assert cfg.model.backbone.cnn.img_size == 48
    assert cfg.val_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == '/my/images'
    assert cfg.val_dataloader.dataset.pipeline == [dict(type='ResizeToSize', img_size=64)]
    assert layer_of(cfg, ('img_size',)).rank == 0
    assert layer_of(cfg, ('train_dataloader', 'dataset', 'type')).rank == -1
    updated = write(tmp_path, 'updated.py', f'{LAZY}train_dataloader.update(dict(batch_size=3))\n')
    assert load_config(updated).train_dataloader.batch_size == 3


def test_the_shipped_bases_are_plain_so_that_both_styles_inherit_them(tmp_path):
    import shutil

    shutil.copytree(config_path('_base_'), tmp_path / '_base_')
    lines = [
        f'    from ._base_.{name} import *\n'
        for name in ('models.hybrid_digits', 'datasets.digits_two_views', 'schedules.adamw_cosine_digits',
                     'default_runtime')
    ]  # fmt: skip
    head = "model.update(dict(head=dict(type='SupConHead', projection=dict(out_channels=64), loss="
    bases = f'from mmengine.config import read_base\nwith read_base():\n{"".join(lines)}'
    text = f"{bases}{head}dict(type='SupConLoss'))))\n"
    cfg = load_config(write(tmp_path, 'lazy.py', text))
    plain = load_config(config_path('digits/supcon_hybrid.py'))
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'randomness'):
        assert cfg[key] == plain[key], key
    assert cfg.model.backbone == plain.model.backbone


def test_a_lazy_config_on_one_that_names_its_bases_is_told_what_works(tmp_path):
    write(tmp_path, 'base.py', BASE)
    write(tmp_path, 'middle.py', "_base_ = 'base.py'\n")
    text = 'from mmengine.config import read_base\nwith read_base():\n    from .middle import *\n'
    with pytest.raises(ConfigError, match=r'imports .*middle\.py by read_base.*Write _base_ = '):
        load_config(write(tmp_path, 'lazy.py', text))


def test_a_variable_whose_comparison_is_no_truth(tmp_path):
    cfg = loaded(tmp_path, 'import torch\nw = torch.ones(3)\nmodel = dict(weight=w)\n', 'model = dict(a=1)\n')
    assert cfg.model.weight.sum() == 3
    assert layer_of(cfg, ('model', 'weight')).rank == 0


def test_a_base_that_two_bases_inherit_is_named(tmp_path):
    write(tmp_path, 'far.py', 'model = dict(a=1)\n')
    for name in ('one.py', 'other.py'):
        write(tmp_path, name, "_base_ = 'far.py'\n")
    with pytest.raises(ConfigError, match=r"key 'model': .*far\.py and .*far\.py\. Let only one of the bases inherit"):
        load_config(write(tmp_path, 'child.py', "_base_ = ['one.py', 'other.py']\n"))


@pytest.mark.parametrize('options', [{}, {'default_hooks.ema': None}])
def test_a_hook_of_a_base_is_switched_off_and_a_mistyped_one_is_not(tmp_path, options):
    hooks = (
        "default_hooks = dict(timer=dict(type='IterTimerHook'), ema=dict(type='EMAHook'), logger=dict(interval=1))\n"
    )
    child = 'default_hooks = dict(timer=None, emma=None{})\n'.format('' if options else ', ema=None')
    cfg = loaded(tmp_path, child, hooks, options)
    assert cfg.default_hooks == dict(timer=None, logger=dict(interval=1), emma=None)
    assert all('ema' not in path for path in provenance_of(cfg).origins)


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        (
            "a = dict(b=dict(type='X'))",
            r'child\.py: a\.b is a dict, and a list in its base\. Write b = \[dict\(\.\.\.\)\], which replaces the '
            r'list\. A dict takes its place with _delete_=True in it\.$',
        ),
        ("a = dict(c=dict(type='X'))", r'a\.c is a dict, and no dict in its base\. A dict takes its place'),
    ],
)
def test_a_dict_where_the_base_has_none(tmp_path, text, sentence):
    write(tmp_path, 'base.py', "a = dict(b=[dict(type='Y')], c=1, d=None)\n")
    with pytest.raises(ConfigError, match=sentence):
        read_layers(write(tmp_path, 'child.py', f"_base_ = 'base.py'\n{text}\n"))
    for works in (text.replace('dict(type', 'dict(_delete_=True, type'), "a = dict(b=[dict(type='X')])"):
        assert read_layers(write(tmp_path, 'child.py', f"_base_ = 'base.py'\n{works}\n")).values['a']
