"""Shared keys of the top level fill what is open; what is written, by whichever layer, stays."""

from functools import cache
from pathlib import Path

import pytest
from config_helpers import loaded, write
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from hybridcls import config_path
from hybridcls.engine.config import is_chain, load_config, provenance_of
from hybridcls.engine.config.change import record_of
from hybridcls.engine.config.shared_keys import SHARED_KEYS
from hybridcls.engine.config.tree import ABSENT, dotted, value_at

CONFIG = """
img_size = 192
num_classes = 7
data_root = 'data/base'
views = [dict(type='ResizeToSize', img_size=None), dict(type='PackInputs')]
model = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', cnn=dict(model_name='a'), vit=dict(model_name='b')),
    head=dict(type='LinearClsHead', in_channels=4),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=1., num_classes=None)]))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='ResizeToSize'),
    dict(type='MultiView', num_views=[1, 1], transforms=[views, [dict(type='RandomCropToSize')]])]
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='RepeatDataset', times=2, dataset=dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=dict(
        type='CustomDataset', pipeline=train_pipeline))))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='ConcatDataset', datasets=[
    dict(type='CustomDataset', pipeline=views),
    dict(type='CustomDataset', data_root='data/elsewhere', pipeline=views)]))
val_evaluator = [dict(type='kNN', bank_dataloader=dict(num_workers=1, dataset=dict(
    type='CustomDataset', pipeline=[dict(type='ResizeToSize')])))]
tta_pipeline = [dict(type='TestTimeAug', transforms=[[dict(type='ResizeToSize')]])]
"""


def sizes(node):
    """All values of keys named img_size."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == 'img_size':
                yield value
            yield from sizes(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from sizes(value)


@pytest.mark.parametrize('options', [{}, {'img_size': 64}, {'img_size': (64, 96)}])
def test_img_size_fills_every_place(tmp_path, options):
    cfg = loaded(tmp_path, base=CONFIG, options=options)
    wanted = options.get('img_size', 192)
    places = ('model', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'tta_pipeline')
    found = [value for key in places for value in sizes(cfg[key])]
    # the backbone; the training's transform, and two in its views; two of validation; the bank; TTA
    assert found == [wanted] * 8


def test_the_data_of_a_hook_are_filled_and_its_teacher_is_not(tmp_path):
    pipeline = [dict(type='ResizeToSize'), dict(type='ResizeToSize', img_size=48)]
    hook = dict(type='H', teacher=dict(img_size=None), dataloader=dict(dataset=dict(pipeline=pipeline)))
    cfg = loaded(tmp_path, base=CONFIG, options={'custom_hooks': [hook]})
    assert cfg.custom_hooks[0].teacher.img_size is None
    assert list(sizes(cfg.custom_hooks[0].dataloader)) == [192, 48]


def test_num_classes_fills_the_head_and_the_augmentations(tmp_path):
    cfg = loaded(tmp_path, base=CONFIG, options={'num_classes': 5})
    assert cfg.model.head.num_classes == 5
    assert cfg.model.train_cfg.augments[0].num_classes == 5


def test_a_backbone_without_classifier_keeps_none(tmp_path):
    for options in ({'model.backbone.num_classes': -1}, {'model.backbone': dict(type='LeNet5', num_classes=-1)}):
        assert loaded(tmp_path, base=CONFIG, options=options).model.backbone.num_classes == -1


@pytest.mark.parametrize(('head', 'filled'), [('LinearClsHead', True), ('ContrastiveHead', False), ('NoSuch', False)])
def test_a_head_that_an_option_puts_in_place_of_another_is_asked_itself(tmp_path, head, filled):
    cfg = loaded(tmp_path, base=CONFIG, options={'model.head': dict(_delete_=True, type=head)})
    assert cfg.model.head == (dict(type=head, num_classes=7) if filled else dict(type=head))


def test_the_heads_of_a_multi_head_keep_their_own_number(tmp_path):
    heads = "dict(digit=dict(type='LinearHead'), parity=dict(type='LinearHead', num_classes=2))"
    cfg = loaded(tmp_path, f"model = dict(head=dict(_delete_=True, type='MultiHead', heads={heads}))", CONFIG)
    assert cfg.model.head.num_classes == 7
    assert cfg.model.head.heads.parity.num_classes == 2
    assert 'num_classes' not in cfg.model.head.heads.digit


@pytest.mark.parametrize('options', [{}, {'data_root': '/x'}])
def test_data_root_fills_wrapped_listed_and_bank_datasets(tmp_path, options):
    cfg = loaded(tmp_path, "data_root = 'data/mine'", CONFIG, options)
    wanted = options.get('data_root', 'data/mine')
    assert cfg.train_dataloader.dataset.dataset.dataset.data_root == wanted
    assert 'data_root' not in cfg.train_dataloader.dataset, 'a wrapper has no root'
    assert [one.data_root for one in cfg.val_dataloader.dataset.datasets] == [wanted, 'data/elsewhere']
    assert cfg.val_evaluator[0].bank_dataloader.dataset.data_root == wanted
    (note,) = [note for note in provenance_of(cfg).notes if 'data_root' in note]
    assert "does not reach val_dataloader.dataset.datasets.1.data_root='data/elsewhere'" in note


def test_what_is_not_set_fills_nothing(tmp_path):
    cfg = loaded(tmp_path, base=CONFIG.split("'data/base'\n", 1)[1])
    assert 'img_size' not in cfg.model.backbone
    assert 'num_classes' not in cfg.model.head
    assert 'data_root' not in cfg.train_dataloader.dataset.dataset.dataset


def test_a_plugin_derived_from_a_backbone_is_one(tmp_path, monkeypatch):
    write(tmp_path, 'derived_backbone.py', (
        'from hybridcls.models.backbones import HybridBackbone\nfrom hybridcls.registry import MODELS\n'
        '@MODELS.register_module()\nclass DerivedBackbone(HybridBackbone):\n    """Mine."""\n'))  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    child = "custom_imports = dict(imports=['derived_backbone'])\nmodel = dict(backbone=dict(type='DerivedBackbone'))\n"
    cfg = loaded(tmp_path, f'{child}pretrained = True', CONFIG)
    assert (cfg.model.backbone.img_size, cfg.model.backbone.cnn.pretrained) == (192, True)


@pytest.mark.parametrize('how', ['child', 'option'])
def test_a_shared_key_that_no_part_takes_is_said(tmp_path, how):
    options = {'num_classes': 3} if how == 'option' else None
    cfg = loaded(
        tmp_path, 'num_classes = 3\n' if how == 'child' else '', "model = dict(head=dict(type='SupConHead'))", options
    )
    assert provenance_of(cfg).notes == ['num_classes=3 has no effect: no part of this config takes it.']
    used = "_base_ = 'base.py'\nnum_classes = 3\nmodel = dict(x=num_classes + 1)\n"
    assert provenance_of(load_config(write(tmp_path, 'used.py', used))).notes == []
    far = write(tmp_path, 'far.py', "_base_ = 'used.py'\n")
    assert provenance_of(load_config(far)).notes == []


def test_a_rate_fills_each_of_several_optimizers(tmp_path):
    one = "dict(type='OptimWrapper', optimizer=dict(type='SGD'))"
    other = "dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))"
    cfg = loaded(tmp_path, 'lr = 0.3', f"optim_wrapper = dict(constructor='C', a={one}, b={other})")
    assert (cfg.optim_wrapper.a.optimizer.lr, cfg.optim_wrapper.b.optimizer.lr) == (0.3, 0.1)


def test_a_stream_with_weights_of_its_own_keeps_them(tmp_path):
    streams = "cnn=dict(model_name='a', checkpoint_path='a.pth'), vit=dict(model_name='b', pretrained=True)"
    child = f'model = dict(backbone=dict({streams}))\n'
    cfg = loaded(tmp_path, child, CONFIG, dict(pretrained=True))
    assert 'pretrained' not in cfg.model.backbone.cnn
    assert any("does not reach model.backbone.cnn.checkpoint_path='a.pth'" in n for n in provenance_of(cfg).notes)
    cfg = loaded(tmp_path, child, CONFIG, dict(checkpoint_path='b.pth'))
    assert 'checkpoint_path' not in cfg.model.backbone.vit
    assert any(
        'does not reach model.backbone.cnn.' in n and 'vit.pretrained=True' in n for n in provenance_of(cfg).notes
    )


# Property: what the nearest layer wrote is what is built. A place for each shared key, with the values it may have.
BACKBONE = ('model', 'backbone')
PLACES = {
    'img_size': [(*BACKBONE, 'img_size'), ('train_dataloader', 'dataset', 'pipeline', 0, 'img_size')],
    'num_classes': [('model', 'head', 'num_classes')],
    'data_root': [('train_dataloader', 'dataset', 'data_root')],
    'pretrained': [(*BACKBONE, 'cnn', 'pretrained'), (*BACKBONE, 'vit', 'pretrained')],
    'checkpoint_path': [(*BACKBONE, 'cnn', 'checkpoint_path')],
    'model_name': [(*BACKBONE, 'vit', 'model_name')],
    'max_epochs': [('train_cfg', 'max_epochs')],
    'batch_size': [('train_dataloader', 'batch_size'), ('val_dataloader', 'batch_size')],
    'lr': [('optim_wrapper', 'optimizer', 'lr')],
    'seed': [('randomness', 'seed')],
    'cache_dir': [('val_dataloader', 'dataset', 'cache', 'folder')],
    'drop': [('train_dataloader', 'dataset', 'drop')],
    'relabel': [('train_dataloader', 'dataset', 'relabel')],
}
PAIRS = [(key, place) for key, places in PLACES.items() for place in places]
VALUES = {
    'data_root': ['', 'a', 'b', None], 'checkpoint_path': ['', 'x.pth', None], 'model_name': ['m', 'n', None],
    'pretrained': [True, False, None], 'cache_dir': ['', 'a', 'b', None],
    'drop': ['a.csv', 'b.csv', None], 'relabel': ['a.csv', 'b.csv', None],
}  # fmt: skip
UNSET = 'unset'
SMALL = """
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', cnn=dict(), vit=dict()),
             head=dict(type='LinearHead'))
train_dataloader = dict(num_workers=0, dataset=dict(type='ImageFolder', pipeline=[dict(type='ResizeToSize')]))
val_dataloader = dict(num_workers=0, dataset=dict(type='ImageFolder', pipeline=[], cache=dict(where='mapped')))
train_cfg = dict(by_epoch=True)
randomness = dict(deterministic=False)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD'))
"""


def test_every_shared_key_has_a_place_here():
    assert set(PLACES) == set(SHARED_KEYS)


@st.composite
def cases(draw):
    key, place = draw(st.sampled_from(PAIRS))
    value = st.sampled_from([UNSET, *VALUES.get(key, [0, 1, 32, 64, None])])
    return key, place, [(draw(value), draw(value)) for _ in range(3)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_what_the_nearest_layer_wrote_is_what_is_built(tmp_path_factory, case):
    """Three layers, base, child and options, each with or without the shared key and the place itself."""
    key, place, layers = case
    folder = tmp_path_factory.mktemp('case')
    texts, options = [], {}
    for number, (shared, nested) in enumerate(layers):
        text = SMALL if number == 0 else ''
        if number == 2:
            options.update({name: value for name, value in ((key, shared), (dotted(place), nested)) if value != UNSET})
            break
        if shared != UNSET:
            text += f'{key} = {shared!r}\n'
        if nested != UNSET and number == 0:
            text += f'{statement(place, nested)}\n'
        elif nested != UNSET:
            text += nested_dict(place, nested)
        texts.append(text)
    cfg = loaded(folder, texts[1], texts[0], options)

    def nearest(values):
        return next((value for value in reversed(values) if value != UNSET), None)

    written, shared = nearest([nested for _, nested in layers]), nearest([shared for shared, _ in layers])
    pretrained = value_at(cfg, (*place[:-1], 'pretrained')) is True
    expected = shared if written is None and not (key == 'checkpoint_path' and pretrained) else written
    found = value_at(cfg, place)
    assert (None if found is ABSENT else found) == expected
    again = load_config(folder / 'child.py', options)
    assert again.to_dict() == cfg.to_dict()


def statement(place, value):
    """One line that sets a value in what stands above it in the file."""
    return place[0] + ''.join(f'[{part!r}]' for part in place[1:]) + f' = {value!r}'


def nested_dict(place, value):
    """One line that writes a value as a child config does; lists are replaced as one."""
    text = repr(value)
    for part in reversed(place[1:]):
        text = f"[dict(type='ResizeToSize', {text[5:]}]" if part == 0 else f'dict({part}={text})'
    return f'{place[0]} = {text}\n'


# The same for the shipped configs, whose own words mmengine's reader tells.
SHIPPED = [
    path for path in sorted(Path(config_path('')).glob('[dh]*/*.py')) if not is_chain(Config.fromfile(str(path)))
]
read_by_mmengine = cache(Config.fromfile)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SHIPPED_PLACES = {
    'img_size': [(*BACKBONE, 'img_size'), (*BACKBONE, 'vit', 'img_size')],
    'num_classes': [('model', 'head', 'num_classes')],
    'data_root': [(loader, 'dataset', 'data_root') for loader in LOADERS],
    'pretrained': [(*BACKBONE, stream, 'pretrained') for stream in ('cnn', 'vit')],
    'checkpoint_path': [(*BACKBONE, stream, 'checkpoint_path') for stream in ('cnn', 'vit')],
    'model_name': [(*BACKBONE, stream, 'model_name') for stream in ('cnn', 'vit')],
    'max_epochs': [('train_cfg', 'max_epochs')],
    'batch_size': [(loader, 'batch_size') for loader in LOADERS],
    'lr': [('optim_wrapper', 'optimizer', 'lr')],
    'seed': [('randomness', 'seed')],
}
NEVER_FILLED = {(*BACKBONE, 'vit', 'img_size')}  # a stream's own; the backbone hands it its own where it is open


@st.composite
def children(draw):
    path = draw(st.sampled_from(SHIPPED))
    shipped = read_by_mmengine(str(path))
    key = draw(st.sampled_from([key for key in SHARED_KEYS if key in SHIPPED_PLACES]))
    place = draw(st.sampled_from(SHIPPED_PLACES[key]))
    own = [value for value in (shipped.get(key), value_at(shipped, place)) if value is not ABSENT]
    value = st.sampled_from([UNSET, *VALUES.get(key, [0, False, 1, 64, None]), *own])
    layers = [(shipped.get(key, UNSET), value_at(shipped, place)), *((draw(value), draw(value)) for _ in range(2))]
    other = draw(
        st.sampled_from([{}, dict(img_size=48, lr=0.25), {'train_cfg.max_epochs': 7, 'seed': 5, 'num_classes': 3}])
    )
    return path, key, place, layers, other


@settings(max_examples=60, deadline=None, derandomize=True)
@given(children())
def test_what_a_child_of_a_shipped_config_wrote_is_what_is_built(tmp_path_factory, case):
    """And it is what its dump gives, alone and with options."""
    path, key, place, layers, other = case
    folder = tmp_path_factory.mktemp('case')
    if value_at(read_by_mmengine(str(path)), place[:-1]) in (ABSENT, None):
        return  # a stream that is off
    (shared, nested), options = layers[1], {}
    text = f'_base_ = {str(path)!r}\n' + (f'{key} = {shared!r}\n' if shared != UNSET else '')
    child = write(folder, 'child.py', text + (nested_dict(place, nested) if nested != UNSET else ''))
    options.update({name: value for name, value in zip((key, dotted(place)), layers[2], strict=True) if value != UNSET})
    cfg = load_config(child, options)

    def nearest(values):
        return next((value for value in reversed(values) if value not in (UNSET, ABSENT)), None)

    written, shared = nearest([nested for _, nested in layers]), nearest([shared for shared, _ in layers])
    is_asked = any(nested is None for _, nested in layers)  # None means "fill me", whoever takes it
    is_filled = written is None and (
        is_asked or not (place in NEVER_FILLED or (cfg.model.head.type == 'SupConHead' and key == 'num_classes'))
    )
    found = value_at(cfg, place)
    assert (None if found is ABSENT else found) == (shared if is_filled else written)
    assert type(found) is type(written if written is not None else found)
    cfg['filled'] = record_of(cfg)
    dump = write(folder, 'dump.py', '\n'.join(f'{key} = {value!r}' for key, value in cfg.to_dict().items()))
    assert load_config(dump, other).to_dict() == load_config(child, {**options, **other}).to_dict()
