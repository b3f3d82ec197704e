"""Depths of layers, against the scales that timm gives the whole model."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from hybridcls.compat.timm import layer_depths
from hybridcls.models.backbones import HybridBackbone, TimmStream

MODELS_OF_TIMM = [
    'convnext_atto',
    'convnextv2_atto',
    'swin_tiny_patch4_window7_224',
    'swinv2_tiny_window8_256',
    'vit_tiny_patch16_224',
    'deit_tiny_distilled_patch16_224',
    'vit_small_patch14_reg4_dinov2',
    'resnet18',
    'eva02_tiny_patch14_224',
    'beit_base_patch16_224',
    'efficientnet_b0',
    'maxvit_tiny_tf_224',
]


@pytest.mark.parametrize('name', MODELS_OF_TIMM)
def test_depths_are_those_by_which_timm_scales_the_whole_model(name):
    """The oracle is timm's own grouping of the model with its classifier, which a stream does not have."""
    with torch.device('meta'):
        whole, without = timm.create_model(name, num_classes=10), timm.create_model(name, num_classes=0)
    expected = {
        id(param): group['lr_scale']
        for group in param_groups_layer_decay(whole, layer_decay=0.5)
        for param in group['params']
    }
    depths, count = layer_depths(without)
    assert set(depths) - {name for name, _ in without.named_parameters()} <= {
        f'{whole.pretrained_cfg["classifier"]}.weight',
        f'{whole.pretrained_cfg["classifier"][0]}.weight',
    }
    for param_name, _ in without.named_parameters():
        scale = 0.5 ** (count - depths[param_name] - 1)
        assert scale == expected[id(whole.get_parameter(param_name))], param_name


def test_a_model_without_an_order_is_refused():
    with pytest.raises(ValueError, match='expected a model with a group_matcher, as timm has them, got Linear'):
        layer_depths(nn.Linear(2, 2))


def test_a_stream_finds_layers_that_were_added_to_it():
    stream = TimmStream('test_vit', img_size=32)
    assert stream.get_layer_depth('model.blocks.2.attn.qkv.weight') == (3, 8)
    stream.model.blocks[2].attn.qkv.lora_a = nn.Linear(2, 2)
    assert stream.get_layer_depth('model.blocks.2.attn.qkv.lora_a.weight') == (3, 8)
    with pytest.raises(ValueError, match=r"has no parameter 'model\.blocks\.9"):
        stream.get_layer_depth('model.blocks.9.weight')


def test_a_hybrid_backbone_counts_each_stream_by_itself():
    backbone = HybridBackbone(
        cnn=dict(model_name='test_resnet'),
        vit=dict(model_name='test_vit'),
        img_size=32,
        use_cbam=True,
        token_learner_tokens=2,
    )
    assert backbone.stream_parts() == dict(cnn=('cnn', 'cbam'), vit=('vit', 'token_learner'))
    assert backbone.get_layer_depth('backbone.cnn.model.conv1.0.weight') == (0, 6)
    assert backbone.get_layer_depth('backbone.vit.model.blocks.0.norm1.weight') == (1, 8)
    assert backbone.get_layer_depth('backbone.token_learner.norm.weight') == (7, 8)
    assert backbone.get_layer_depth('backbone.' + next(n for n, _ in backbone.named_parameters() if 'cbam' in n)) == (
        5,
        6,
    )
    assert backbone.get_layer_depth('head.weight') == (7, 8)
    assert backbone.get_layer_depth('cnn.model.conv1.0.weight', prefix='') == (0, 6)
    with pytest.raises(ValueError, match='has no parameter'):
        backbone.get_layer_depth('backbone.nothing.weight')


def test_a_registered_stream_asks_its_backbone():
    cnn = dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 8]), output='vector')
    backbone = HybridBackbone(cnn=cnn, img_size=32)
    inner = backbone.cnn.model
    for name, _ in inner.named_parameters():
        assert backbone.get_layer_depth(f'backbone.cnn.model.{name}') == inner.get_layer_depth(name)
    count = inner.get_layer_depth('norm3.weight')[1]
    assert backbone.get_layer_depth('neck.weight') == (count - 1, count)
