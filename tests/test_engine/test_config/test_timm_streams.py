"""A top-level model_name is enough; what a stream starts from is found, or left out where a checkpoint has it."""

import pytest
import timm
import torch
from config_helpers import loaded
from huggingface_hub import constants

from hybridcls.engine.config import load_config, provenance_of
from hybridcls.engine.config.change import apply, record_of, table_of
from hybridcls.engine.config.dumps import RECORD
from hybridcls.engine.config.timm_streams import check_timm_streams, weights_of_runs

LONE = """
model_name = 'test_resnet'
checkpoint_path = None
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone'), head=dict(type='LinearHead', num_classes=2))
"""
HYBRID = LONE.replace("'HybridBackbone'", "'HybridBackbone', vit=dict(model_name='test_vit', pretrained=True)")


@pytest.mark.parametrize(
    ('name', 'stream', 'features'),
    [
        ('test_efficientnet', 'cnn', 'a map'),
        ('test_maxvit', 'cnn', 'a map'),
        ('test_vit', 'vit', 'tokens'),
        ('swinv2_tiny_window8_256', 'vit', 'tokens'),
    ],
)
def test_a_model_name_becomes_the_stream_of_its_kind(tmp_path, name, stream, features):
    cfg = loaded(tmp_path, base=LONE, options=dict(model_name=name))
    assert cfg.model.backbone == {'type': 'HybridBackbone', stream: dict(model_name=name)}
    assert f'model.backbone.{stream}  a dict  top-level model_name: {name} returns {features}' in table_of(cfg)


def test_a_stream_that_is_written_stays_alone(tmp_path):
    cfg = loaded(tmp_path, base=HYBRID, options=dict(model_name='test_resnet'))
    assert 'cnn' not in cfg.model.backbone
    assert any("model_name='test_resnet' does not reach" in note for note in provenance_of(cfg).notes)
    cfg = loaded(tmp_path, base=LONE, options={'model.backbone.cnn.drop_path_rate': 0.1})
    assert cfg.model.backbone.cnn == dict(drop_path_rate=0.1, model_name='test_resnet')


def test_a_name_that_timm_does_not_have_names_near_ones(tmp_path):
    with pytest.raises(ValueError, match=r"model_name: timm has no model 'test_resnt'\. Did you mean 'test_resnet'"):
        loaded(tmp_path, base=LONE, options=dict(model_name='test_resnt'))
    cfg = loaded(tmp_path, base=HYBRID, options={'model.backbone.vit.model_name': 'test_vitt'})
    with pytest.raises(
        ValueError, match=r"model\.backbone\.vit: timm has no model 'test_vitt'\. Did you mean 'test_vit'"
    ):
        check_timm_streams(cfg)


def test_weights_that_are_not_here_are_told_before_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    cfg = loaded(tmp_path, base=HYBRID)
    with pytest.raises(FileNotFoundError, match=r'model\.backbone\.vit: the pretrained weights of test_vit are not in'):
        check_timm_streams(cfg)
    cfg = loaded(tmp_path, base=HYBRID, options={'model.backbone.vit.checkpoint_path': str(tmp_path / 'no.pth')})
    with pytest.raises(FileNotFoundError, match=r"model\.backbone\.vit: checkpoint_path='.*no\.pth' does not exist"):
        check_timm_streams(cfg)


def test_a_file_of_another_model_is_told_before_data_are_read(tmp_path):
    torch.save(timm.create_model('test_resnet').state_dict(), tmp_path / 'w.pth')
    options = dict(checkpoint_path=str(tmp_path / 'w.pth'))
    check_timm_streams(loaded(tmp_path, base=LONE, options=options))
    check_timm_streams(loaded(tmp_path, base=LONE, options={**options, 'model.backbone.cnn.in_chans': 1}))
    cfg = loaded(tmp_path, base=LONE, options=dict(options, model_name='test_vit'))
    with pytest.raises(ValueError, match=r'w\.pth does not hold the weights of test_vit: it lacks all .* a ResNet'):
        check_timm_streams(cfg)


def test_a_dump_takes_another_name(tmp_path):
    """What a step filled is taken back before the dump is completed again."""
    cfg = loaded(tmp_path, base=LONE)
    cfg[RECORD] = record_of(cfg)
    cfg.dump(tmp_path / 'dumped.py')
    again = load_config(tmp_path / 'dumped.py', dict(model_name='test_vit'))
    assert again.model.backbone == dict(type='HybridBackbone', vit=dict(model_name='test_vit'))


def test_a_work_dir_stands_for_its_best_checkpoint(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    for name in ('epoch_2.pth', 'best_accuracy_top1_epoch_1.pth'):
        torch.save(dict(state_dict=dict(a=torch.zeros(1)), meta={}), run / name)
    cfg = loaded(tmp_path, base=LONE, options=dict(checkpoint_path=str(run)))
    apply(cfg, weights_of_runs)
    assert cfg.model.backbone.cnn.checkpoint_path == str(run / 'best_accuracy_top1_epoch_1.pth')
    assert 'the best of' in table_of(cfg)
    hub = tmp_path / 'hub'
    hub.mkdir()
    (hub / 'model.safetensors').write_bytes(b'')
    cfg = loaded(tmp_path, base=LONE, options=dict(checkpoint_path=str(hub)))
    apply(cfg, weights_of_runs)
    assert cfg.model.backbone.cnn.checkpoint_path == str(hub)
