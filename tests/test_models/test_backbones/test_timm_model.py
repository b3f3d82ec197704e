"""A timm model without its classifier: which arguments reach it, and what is said where it cannot be."""

import pytest
import timm
import torch

from hybridcls.models.backbones.timm_model import create_timm_model, fixed_size, patch_size


def create(name='test_resnet', pretrained=False, path='', rate=None, size=None, default=0.0, **timm_args):
    return create_timm_model(name, pretrained, path, rate, size, timm_args, default)


def test_a_size_and_a_rate_reach_the_models_that_take_them():
    vit = create('vit_tiny_patch16_224', size=(64, 32), default=0.3, depth=2)
    assert fixed_size(vit) == (64, 32)
    assert vit.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
    assert vit.num_classes == 0
    convnet = create('mobilenetv3_small_050', size=64)
    assert fixed_size(convnet) is None


def test_patches():
    assert patch_size(create('test_vit')) == (16, 16)
    assert patch_size(create()) is None


def test_weights_of_a_file_are_loaded_without_the_classifier(tmp_path):
    torch.manual_seed(1)
    source = timm.create_model('test_resnet')
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    model = create(path=str(tmp_path / 'w.pth'))
    assert not [name for name in model.state_dict() if name.startswith('fc.')]
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_file_of_another_model_is_refused(tmp_path):
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=r'w.pth do not fit test_resnet .*missing: '):
        create(path=str(tmp_path / 'w.pth'))
    torch.save({}, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=r'expected weights in checkpoint_path=.* got none'):
        create(path=str(tmp_path / 'w.pth'))


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (dict(name='test_resnt'), ValueError, "timm has no model 'test_resnt'. Did you mean 'test_resnet"),
        (dict(name='test_resnet.r160_in2k'), ValueError, "no weights 'r160_in2k' of test_resnet. Did you mean"),
        (dict(features_only=True), TypeError, 'features_only=True cannot be set'),
        (dict(frozen_stage=1), TypeError, "takes no argument 'frozen_stage'. Did you mean 'frozen_stages'"),
        (dict(name='test_vit', size=60, depth=1), ValueError, None),
        (dict(path='/nowhere/w.pth'), FileNotFoundError, 'checkpoint_path'),
    ],
)
def test_what_cannot_be_created(keys, error, message):
    if message is None:  # sizes that patches do not divide are for the stream to refuse
        create(**keys)
        return
    with pytest.raises(error, match=message):
        create(**keys)
