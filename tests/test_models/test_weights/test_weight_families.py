"""What a file seems to hold, for messages."""

import json

import pytest
import timm

from hybridcls.models.weights.weight_families import guess_model


@pytest.mark.parametrize(
    ('name', 'family'),
    [
        ('test_resnet', 'a ResNet'),
        ('test_vit', 'a vision transformer'),
        ('test_convnext', 'a ConvNeXt'),
        ('test_efficientnet', 'an EfficientNet or MobileNet'),
        ('swin_tiny_patch4_window7_224', 'a Swin'),
        ('swinv2_tiny_window8_256', 'a Swin V2'),
    ],
)
def test_the_family_is_told_by_names(name, family):
    import torch

    with torch.device('meta'):
        weights = timm.create_model(name).state_dict()
    behind = {f'backbone.vit.model.{key}': value for key, value in weights.items()}
    for one in (weights, behind):
        assert guess_model('w.pth', {}, one) == f' It seems to hold {family}.'


def test_a_run_a_config_beside_and_the_name_of_the_file_say_more(tmp_path):
    run = dict(
        meta=dict(cfg="model = dict(backbone=dict(cnn=dict(model_name='resnet18'), vit={'model_name': 'vit_t'}))")
    )
    assert guess_model('w.pth', run, {}) == ' It seems to hold resnet18 and vit_t.'
    (tmp_path / 'config.json').write_text(json.dumps(dict(architecture='test_vit')))
    assert guess_model(str(tmp_path / 'model.safetensors'), {}, {}) == ' It seems to hold test_vit.'
    assert guess_model('resnet50_a1_0-14fe96d1.pth', {}, {}) == ' It seems to hold resnet50.'
    resnet = {'layer1.0.conv1.weight': 0}
    assert guess_model('resnet50-0676ba61.pth', {}, resnet) == ' It seems to hold a ResNet (by its name resnet50).'
    assert guess_model('w.pth', {}, {}) == ''
