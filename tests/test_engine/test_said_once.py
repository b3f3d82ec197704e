"""img_size, num_classes and data_root are said at the top and reach every place."""

import pytest

from hybridcls.engine.config import load_config

CONFIG = """
img_size = 192
num_classes = 7
data_root = 'data/base'
views = [dict(type='ResizeEdge', img_size=None), dict(type='PackInputs')]
model = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', cnn=dict(model_name='a'), vit=dict(model_name='b')),
    head=dict(type='LinearClsHead', in_channels=4),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=1., num_classes=None)]))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='ResizeToSize'),
    dict(type='MultiView', num_views=[1, 1], transforms=[views, [dict(type='Crop', img_size=224)]])]
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='RepeatDataset', times=2, dataset=dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=dict(
        type='CustomDataset', data_root='data/base', pipeline=train_pipeline))))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='ConcatDataset', datasets=[
    dict(type='CustomDataset', pipeline=views),
    dict(type='CustomDataset', data_root='data/elsewhere', pipeline=views)]))
val_evaluator = [dict(type='kNN', bank_dataloader=dict(num_workers=1, dataset=dict(
    type='CustomDataset', data_root='', pipeline=[dict(type='ResizeEdge', img_size=1)])))]
tta_pipeline = [dict(type='TestTimeAug', transforms=[[dict(type='Crop', img_size=1)]])]
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'base.py').write_text(CONFIG)
    (tmp_path / 'child.py').write_text("_base_ = 'base.py'\ndata_root = 'data/mine'\n")
    return tmp_path / 'child.py'


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
def test_img_size_reaches_every_place(config, options):
    cfg = load_config(config, options)
    found = [value for key, value in cfg.items() for value in sizes({key: value} if key != 'img_size' else {})]
    # the backbone; two views, one of them twice for the two ways to name it; three pipelines of validation; TTA
    assert cfg.model.backbone.img_size == options.get('img_size', 192)
    assert cfg.train_dataloader.dataset.dataset.dataset.pipeline[2].transforms[1][0].img_size == options.get(
        'img_size', 192
    )
    assert cfg.train_dataloader.dataset.dataset.dataset.pipeline[1].img_size == options.get('img_size', 192)
    assert len(found) >= 7
    assert {value if isinstance(value, int) else tuple(value) for value in found} == {options.get('img_size', 192)}


def test_a_teacher_in_a_hook_keeps_its_size_but_the_data_of_a_hook_do_not(config):
    hook = dict(type='H', teacher=dict(img_size=384), dataloader=dict(dataset=dict(pipeline=[dict(img_size=1)])))
    cfg = load_config(config, {'custom_hooks': [hook]})
    assert cfg.custom_hooks[0].teacher.img_size == 384
    assert cfg.custom_hooks[0].dataloader.dataset.pipeline[0].img_size == 192


def test_an_option_for_one_place_wins_there(config):
    cfg = load_config(config, {'img_size': 64, 'tta_pipeline.0.transforms.0.0.img_size': 80})
    assert cfg.tta_pipeline[0].transforms[0][0].img_size == 80
    assert cfg.model.backbone.img_size == 64


def test_num_classes_reaches_the_head_and_the_augmentations(config):
    cfg = load_config(config, {'num_classes': 5})
    assert cfg.model.head.num_classes == 5
    assert cfg.model.train_cfg.augments[0].num_classes == 5


def test_a_backbone_without_classifier_keeps_none(config):
    assert load_config(config, {'model.backbone.num_classes': -1}).model.backbone.num_classes == -1
    assert load_config(config, {'model.backbone': dict(type='LeNet5', num_classes=-1)}).model.backbone.num_classes == -1


def test_a_head_that_an_option_puts_in_place_of_another_gets_it_too(config):
    cfg = load_config(config, {'model.head': dict(_delete_=True, type='LinearClsHead')})
    assert cfg.model.head == dict(type='LinearClsHead', num_classes=7)


def test_a_head_without_classes_gets_none(config):
    cfg = load_config(config, {'model.head': dict(_delete_=True, type='ContrastiveHead')})
    assert 'num_classes' not in cfg.model.head


def test_a_head_that_nobody_knows_is_left_to_the_build(config):
    cfg = load_config(config, {'model.head.type': 'NoSuchHead'})
    assert 'num_classes' not in cfg.model.head


def test_data_root_reaches_wrapped_listed_and_bank_datasets(config):
    cfg = load_config(config)
    assert cfg.train_dataloader.dataset.dataset.dataset.data_root == 'data/mine'
    assert 'data_root' not in cfg.train_dataloader.dataset, 'a wrapper has no root'
    assert cfg.val_dataloader.dataset.datasets[0].data_root == 'data/mine'
    assert cfg.val_evaluator[0].bank_dataloader.dataset.data_root == 'data/mine'


def test_a_dataset_from_elsewhere_keeps_its_root(config):
    assert load_config(config).val_dataloader.dataset.datasets[1].data_root == 'data/elsewhere'


def test_data_root_from_the_command_line_reaches_every_place(config):
    cfg = load_config(config, {'data_root': '/x'})
    assert cfg.train_dataloader.dataset.dataset.dataset.data_root == '/x'


def test_what_is_not_said_changes_nothing(tmp_path):
    (tmp_path / 'silent.py').write_text(CONFIG.split("'data/base'\n", 1)[1])
    cfg = load_config(tmp_path / 'silent.py')
    assert cfg.train_dataloader.dataset.dataset.dataset.data_root == 'data/base'
    assert cfg.tta_pipeline[0].transforms[0][0].img_size == 1
    assert 'img_size' not in cfg.model.backbone
    assert 'num_classes' not in cfg.model.head
