"""The config in a checkpoint builds registered parts and nothing else, and runs nothing."""

import pytest
from mmengine.config import Config

from hybridcls.checkpoint_reading import trust_checkpoints
from hybridcls.engine.config.change import apply, provenance_of
from hybridcls.engine.config.checkpoint_config import (
    UnsafeConfigError,
    check_types,
    config_of_checkpoint,
    without_initial_weights,
    without_start,
)


def test_the_config_is_read_as_literals(tmp_path):
    text = f"model = dict(type='M', head=dict(type='H'))\nopened = open('{tmp_path}/canary', 'w')\n"
    cfg = config_of_checkpoint(dict(meta=dict(cfg=text)), 'x.pth')
    assert cfg.model.type == 'M'
    assert 'opened' not in cfg
    assert not (tmp_path / 'canary').exists()


@pytest.mark.parametrize(
    ('checkpoint', 'sentence'),
    [
        ({}, 'got none. Name the config'),
        (dict(meta=dict(cfg='model = build()')), 'no model that is written in literals'),
        (dict(meta=dict(cfg='model = (')), 'cannot be read'),
    ],
)
def test_a_checkpoint_without_a_config_is_a_sentence(checkpoint, sentence):
    with pytest.raises(ValueError, match=f'x.pth: .*{sentence}.*--config FILE'):
        config_of_checkpoint(checkpoint, 'x.pth')


def test_what_a_training_started_from_is_left_out():
    model = dict(
        type='HybridClassifier',
        init_cfg=dict(type='Pretrained', checkpoint='gone.pth'),
        backbone=dict(cnn=dict(model_name='a', pretrained=True), vit=dict(model_name='b', checkpoint_path='gone.pth')),
        head=dict(type='LinearHead', num_classes=2),
    )
    assert without_start(model) == dict(
        type='HybridClassifier',
        backbone=dict(cnn=dict(model_name='a'), vit=dict(model_name='b')),
        head=dict(type='LinearHead', num_classes=2),
    )
    model['backbone']['lora_rank'] = dict(rank=4, vit=dict(checkpoint='adapters'))
    assert without_start(model)['backbone']['vit'] == dict(model_name='b', checkpoint_path='gone.pth')
    assert without_start(model)['backbone']['cnn'] == dict(model_name='a')
    ensemble = dict(type='EnsembleClassifier', members=['a.pth', dict(checkpoint='b.pth', head=dict(type='H'))])
    assert without_start(ensemble, has_members=True)['members'] == [{}, dict(head=dict(type='H'))]
    assert without_start(ensemble)['members'] == ensemble['members']


def test_a_test_leaves_out_the_same():
    backbone = dict(cnn=dict(model_name='a', pretrained=True), vit=dict(checkpoint_path='gone.pth', pretrained=False))
    cfg = Config(dict(model=dict(init_cfg=dict(checkpoint='gone.pth'), backbone=backbone, several=[backbone])))
    provenance_of(cfg)
    apply(cfg, without_initial_weights)
    left = dict(cnn=dict(model_name='a'), vit=dict(pretrained=False))
    assert cfg.model == dict(backbone=left, several=[left])
    cfg = Config(dict(model=dict(backbone=dict(backbone, lora_rank=dict(checkpoint='adapters')))))
    apply(cfg, without_initial_weights)
    assert cfg.model.backbone.vit.checkpoint_path == 'gone.pth'


@pytest.mark.parametrize(
    'kind',
    ['HybridClassifier', 'hybridcls.LinearHead', 'mmpretrain.ResNet', 'hybridcls.models.LinearHead',
     'mmpretrain.models.heads.LinearClsHead', 'torch.nn.MultiMarginLoss', 'pseudo_collate', 'LoadImage'],
)  # fmt: skip
def test_registered_parts_pass(kind):
    check_types(dict(head=[dict(type=kind)]), 'x.pth')


@pytest.mark.parametrize(
    ('node', 'sentence'),
    [
        (dict(type='os.system', command='true'), "got type='os.system'.*--trust-checkpoint"),
        (dict(type='subprocess.run'), "type='subprocess.run'"),
        (dict(type='hybridcls.checks.os.system'), 'expected registered classes'),
        (dict(type='torch.nn.init.normal_'), 'expected registered classes'),
        (dict(type='antigravity.LinearHead'), 'expected registered classes'),
        (dict(type=['os.system']), 'expected registered classes'),
        (dict(type='LinearHead', _scope_='antigravity'), 'expected _scope_ among'),
        (dict(default_scope='antigravity'), 'expected default_scope among'),
        (dict(type='LinearHead', trust_remote_code=True), 'trust_remote_code'),
    ],
)
def test_what_might_run_code_is_refused(node, sentence):
    with pytest.raises(UnsafeConfigError, match=f'x.pth: .*{sentence}'):
        check_types(Config(dict(model=dict(backbone=[node]))), 'x.pth')
    trust_checkpoints()
    try:
        check_types(node, 'x.pth')
    finally:
        trust_checkpoints(False)
