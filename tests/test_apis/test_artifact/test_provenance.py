"""What a sidecar says of where a model comes from."""

import hashlib

import pytest
from mmengine.config import Config
from timm.models import create_model
from torch import nn
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.artifact.provenance import first_weights_of, provenance_of
from hybridcls.apis.trained_model import read_trained_model
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights

SPLIT = b'path,label,split,group\r\na/1.png,a,train,\r\nb/2.png,b,val,\r\n'


@pytest.fixture
def trained(tmp_path):
    dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'photos'), pipeline=[])
    cfg = config_of(CNN, LINEAR, train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset)))
    return read_trained_model(write_checkpoint(tmp_path / 'epoch_3.pth', cfg, epoch=3, iter=70)[0])


def test_checkpoint_config_and_versions(trained):
    found = provenance_of(trained)
    assert found['checkpoint'] == 'epoch_3.pth'
    assert found['weights_sha256'] == digest_of_weights(trained.found.path)
    assert (found['epoch'], found['iterations']) == (3, 70)
    assert {'torch', 'timm', 'numpy', 'cv2', 'PIL'} <= set(found['versions'])
    assert str(trained.found.path) not in str(found)  # folders of this machine are nobody's business


def test_the_fingerprint_changes_with_the_split(trained, tmp_path):
    plain = provenance_of(trained)['data']
    assert (plain['type'], plain['folder'], plain['lists']) == ('ImageFolder', 'photos', {})
    (tmp_path / 'split.csv').write_bytes(SPLIT)
    data = provenance_of(trained)['data']
    assert data['lists'] == {'split.csv': dict(sha256=hashlib.sha256(SPLIT).hexdigest(), lines=3)}
    (tmp_path / 'split.csv').write_bytes(SPLIT.replace(b'val', b'test'))
    assert len({plain['fingerprint'], data['fingerprint'], provenance_of(trained)['data']['fingerprint']}) == 3
    assert provenance_of(trained)['data'] == provenance_of(trained)['data']


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {name: nn.ModuleDict(dict(model=create_model('test_resnet'))) for name in ('cnn', 'vit')}
        )


@pytest.mark.parametrize(
    ('stream', 'more', 'expected'),
    [
        (dict(pretrained=True), {}, dict(weights='timm', license='apache-2.0', model='test_resnet.r160_in1k')),
        (dict(checkpoint_path='/a/b.safetensors'), {}, dict(weights='b.safetensors', license='unknown')),
        (dict(pretrained=True), dict(load_from='/c/d.pth'), dict(weights='d.pth', license='unknown')),
        ({}, {}, dict(weights='random', license=None)),
    ],
)
def test_the_licence_is_that_of_the_weights_that_were_loaded(stream, more, expected):
    cfg = Config(dict(model=dict(backbone=dict(cnn=dict(model_name='test_resnet', **stream))), **more))
    found = first_weights_of(TwoStreams(), cfg)
    assert set(found) == {'backbone.cnn', 'backbone.vit'}
    assert found['backbone.cnn'].items() >= expected.items()
    assert found['backbone.vit']['weights'] == ('d.pth' if more else 'random')


def test_a_licence_that_timm_does_not_say_is_unknown():
    model = TwoStreams()
    model.backbone.cnn.model.pretrained_cfg = dict(architecture='test_resnet')
    cfg = Config(dict(model=dict(backbone=dict(cnn=dict(pretrained=True)))))
    found = first_weights_of(model, cfg)['backbone.cnn']
    assert (found['license'], found['url']) == ('unknown', 'unknown')


def test_a_backbone_without_timm():
    cfg = Config(dict(model=dict(backbone=dict(type='mmpretrain.ResNet', init_cfg=dict(checkpoint='x/r.pth')))))
    expected = dict(model='mmpretrain.ResNet', weights='r.pth', license='unknown', url='unknown')
    assert first_weights_of(nn.Linear(1, 1), cfg) == dict(backbone=expected)
