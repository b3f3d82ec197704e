"""The licences of pretrained weights are those that timm records; what is not recorded is not said."""

from timm.models import get_pretrained_cfg

from hybridcls.apis.hub.pretrained_sources import pretrained_sources


def test_each_stream_has_its_own():
    cnn = dict(model_name='convnextv2_base', pretrained=True)
    vit = dict(model_name='swinv2_tiny_window8_256', checkpoint_path='/data/swin.safetensors')
    found = pretrained_sources(dict(model=dict(backbone=dict(cnn=cnn, vit=vit))))
    assert found['backbone.cnn']['license'] == get_pretrained_cfg('convnextv2_base').license == 'cc-by-nc-4.0'
    assert found['backbone.cnn']['url'] == 'https://huggingface.co/timm/convnextv2_base.fcmae_ft_in22k_in1k'
    assert found['backbone.vit'] == dict(model='swinv2_tiny_window8_256', file='swin.safetensors')


def test_random_weights_have_no_source():
    assert pretrained_sources(dict(model=dict(backbone=dict(cnn=dict(model_name='resnet18'))))) == {}
    assert pretrained_sources({}) == {}
