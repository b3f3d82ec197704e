"""Registered backbones as streams."""

import pytest
import torch
from torch import nn

from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.backbones.registered_stream import RegisteredStream
from hybridcls.registry import MODELS

RESNET = dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)
VIT = dict(
    type='VisionTransformer',
    img_size=32,
    patch_size=8,
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
)


@MODELS.register_module()
class BackboneOfNonzeros(nn.Module):
    """Has an operation without a meta form, and random layers that must not move a running mean."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x) + torch.nonzero(torch.ones(2)).sum()


@MODELS.register_module()
class ChannelsLast(nn.Module):
    """Gives (B, h, w, C), and says so or not."""

    def __init__(self, channels, output_fmt=None, only_size=None):
        super().__init__()
        self.conv, self.only_size = nn.Conv2d(3, channels, 4, stride=4), only_size
        if output_fmt is not None:
            self.output_fmt = output_fmt

    def forward(self, x):
        if self.only_size is not None and x.shape[-1] != self.only_size:
            raise RuntimeError('of another size')
        feature = self.conv(x)
        return (feature if getattr(self, 'output_fmt', 'NHWC') == 'NCHW' else feature.permute(0, 2, 3, 1),)


@MODELS.register_module()
class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer


@pytest.mark.parametrize('channels', [5, 8])  # 8 is the height, too
@pytest.mark.parametrize('keys', [dict(), dict(output_fmt='NHWC'), dict(output_fmt='NHWC', only_size=32)])
@torch.no_grad()
def test_maps_with_channels_last(channels, keys):
    stream = RegisteredStream(dict(type='ChannelsLast', channels=channels, **keys), img_size=32)
    images = torch.rand(2, 3, 32, 32)
    assert stream.out_channels == channels
    torch.testing.assert_close(stream(images), stream.model.conv((images - stream.mean) / stream.std))
    declared = RegisteredStream(dict(type='ChannelsLast', channels=channels, output_fmt='NCHW'), img_size=32)
    assert declared(images).shape == (2, channels, 8, 8)


@pytest.mark.parametrize(
    ('answer', 'got'), [(dict(a=1, b=2), 'dict with the keys a, b'), (None, 'NoneType'), ((), 'tuple')]
)
def test_a_backbone_without_a_tensor(answer, got):
    with pytest.raises(TypeError, match=f'expected a tensor or a tuple of tensors from Answering, got {got}'):
        RegisteredStream(dict(type='Answering', answer=answer), img_size=32)


def test_a_backbone_of_grey_images():
    stream = RegisteredStream(dict(type='LeNet5', num_classes=-1), img_size=32)
    assert stream.mean.flatten().tolist() == pytest.approx([0.449])
    assert stream(torch.rand(2, 1, 32, 32)).shape == (2, 120, 1, 1)


def test_an_mmpretrain_backbone_sees_normalised_images():
    stream = RegisteredStream(dict(RESNET), img_size=32).eval()
    assert stream.out_channels == 32
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = ((images.permute(0, 2, 3, 1) - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(stream(images), stream.model(by_hand)[-1])
        own = RegisteredStream(dict(RESNET), output='vector', mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
        own.load_state_dict(stream.state_dict())
        torch.testing.assert_close(own(by_hand), stream(images).mean((2, 3)))


@pytest.mark.parametrize(
    ('out_type', 'output', 'shape'),
    [
        ('featmap', 'map', (2, 24, 4, 4)),
        ('featmap', 'tokens', (2, 16, 24)),
        ('featmap', 'vector', (2, 24)),
        ('raw', 'tokens', (2, 17, 24)),
        ('cls_token', 'vector', (2, 24)),
    ],
)
def test_outputs_of_a_transformer(out_type, output, shape):
    stream = RegisteredStream(dict(VIT, out_type=out_type), output=output, img_size=32).eval()
    assert stream(torch.rand(2, 3, 32, 32)).shape == shape
    assert stream.out_channels == 24
    assert stream.get_layer_depth('model.patch_embed.projection.weight') == (0, 4)
    assert stream.get_layer_depth('model.layers.1.attn.qkv.weight') == (2, 4)


def test_a_feature_of_another_form():
    with pytest.raises(
        ValueError,
        match=r'VisionTransformer gives a feature of shape \(1, 24\), which is no map. '
        "Set output='vector'",
    ):
        RegisteredStream(dict(VIT, out_type='cls_token'), img_size=32)


def test_a_backbone_without_a_meta_form_and_without_depths():
    stream = RegisteredStream(dict(type='BackboneOfNonzeros'), img_size=8)
    assert stream.out_channels == 3
    assert stream.training
    assert stream.model.norm.running_mean.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r'BackboneOfNonzeros does not tell in which order .*layer_decay_rate=1, or'):
        stream.get_layer_depth('model.norm.weight')


def test_init_weights_reaches_the_backbone():
    constant = dict(RESNET, init_cfg=dict(type='Constant', layer='Conv2d', val=0.25))
    backbone = HybridBackbone(cnn=constant, vit=dict(model_name='test_vit'), img_size=64)
    vit = {name: value.clone() for name, value in backbone.vit.state_dict().items()}
    backbone.init_weights()
    assert (backbone.cnn.model.conv1.weight == 0.25).all()
    torch.testing.assert_close(backbone.vit.state_dict(), vit, rtol=0, atol=0)


def test_both_streams_registered_train():
    backbone = HybridBackbone(
        cnn=dict(RESNET, mean=(0.5, 0.5, 0.5)),
        vit=dict(VIT, out_type='featmap', output='tokens'),
        img_size=32,
        use_cbam=True,
        token_learner_tokens=4,
    )
    assert backbone.cnn.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    features = backbone(torch.rand(2, 3, 32, 32))
    assert [tuple(feature.shape) for feature in features] == [(2, 32, 4, 4), (2, 4, 24)]
    sum(feature.square().sum() for feature in features).backward()
    assert {n for n, p in backbone.named_parameters() if p.grad is None} <= {'vit.model.cls_token'}


def test_what_a_stream_leaves_open_is_filled_where_its_class_takes_it():
    backbone = HybridBackbone(
        cnn=dict(type='ResNet', depth=18), vit=dict(VIT, img_size=None, out_type='featmap'), img_size=48
    )
    assert backbone.vit.model.patch_embed.init_out_size == (6, 6)
    assert not backbone.cnn.model.layer1[0].with_cp
    own = HybridBackbone(vit=dict(VIT, out_type='featmap'), img_size=48)
    assert own.vit.model.patch_embed.init_out_size == (4, 4)
    assert HybridBackbone(cnn=dict(type='ResNet', depth=18), img_size=64, with_cp=True).cnn.model.layer1[0].with_cp
    with pytest.raises(ValueError, match='with_cp=True, and LeNet5, the cnn stream, has no with_cp'):
        HybridBackbone(cnn=dict(type='LeNet5', num_classes=-1), img_size=32, with_cp=True)


def test_unknown_and_wrong_keys():
    with pytest.raises(KeyError, match=r'ResNet_CIFR is not in the .* registry. Did you mean .*ResNet_CIFAR'):
        HybridBackbone(cnn=dict(RESNET, type='ResNet_CIFR'))
    with pytest.raises(TypeError, match='depht'):
        HybridBackbone(cnn=dict(RESNET, depht=18))
