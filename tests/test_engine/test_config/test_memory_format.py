"""Channels last by one key: filled where it is faster, written, and kept by a resumed run."""

import pytest
import torch
from config_helpers import applied
from mmengine.config import Config
from toy_runs import train

from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.memory_format import channels_last, set_memory_format
from hybridcls.models import HybridBackbone

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_efficientnet')),
             head=dict(type='LinearHead'))
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', indices=20, pipeline=[dict(type='ResizeToSize', img_size=32), dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
randomness = dict(seed=0)
log_level = 'INFO'
"""


def backbone():
    return HybridBackbone(cnn=dict(model_name='test_efficientnet'))


@pytest.mark.parametrize(
    ('cfg', 'is_on'),
    [
        ({}, True),
        (dict(env_cfg=dict(channels_last=False)), False),
        (dict(env_cfg=dict(compile_streams=True)), False),
        (dict(env_cfg=dict(compile_streams=True, channels_last=True)), True),
        (dict(optim_wrapper=dict(amp='bfloat16')), False),
    ],
)
def test_where_it_is_on(cfg, is_on):
    model = backbone()
    sentence = set_memory_format(Config(cfg), model)
    assert (model.cnn.memory_format is torch.channels_last) == is_on
    assert sentence.startswith('Channels last: cnn') == is_on


def test_what_is_written_and_cannot_be():
    with pytest.raises(ConfigError, match=r"env_cfg\.channels_last: expected True, False or None .*, got 'on'"):
        applied(Config(dict(env_cfg=dict(channels_last='on'))), channels_last)
    written = Config(dict(env_cfg=dict(channels_last=True)))
    assert 'has no CNN stream' in set_memory_format(written, torch.nn.Linear(2, 2))
    assert set_memory_format(Config({}), torch.nn.Linear(2, 2)) == ''


def test_a_resumed_run_keeps_the_layout_of_its_checkpoint(tmp_path):
    (tmp_path / 'cnn.py').write_text(CONFIG)
    off = {'env_cfg.channels_last': False}
    runner = train(tmp_path / 'cnn.py', tmp_path / 'w', **off)
    straight = train(tmp_path / 'cnn.py', tmp_path / 'straight', **off, **{'train_cfg.max_epochs': 2})
    assert runner.model.backbone.cnn.memory_format is None
    resumed = train(tmp_path / 'cnn.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 2})
    (ema,) = [hook.ema_model for hook in resumed.hooks if hasattr(hook, 'ema_model')]
    assert resumed.model.backbone.cnn.memory_format is None
    assert ema.module.backbone.cnn.memory_format is None
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    written = train(
        tmp_path / 'cnn.py', tmp_path / 'w', resume='auto', **{'train_cfg.max_epochs': 3, 'env_cfg.channels_last': True}
    )
    assert written.model.backbone.cnn.memory_format is torch.channels_last
    saved = torch.load(tmp_path / 'w' / 'epoch_3.pth', weights_only=False)
    assert saved['resume']['channels_last'] == ['backbone.cnn']
    assert all(value.is_contiguous() for value in saved['state_dict'].values())
