"""CNN streams in channels last: the layout inside, and what stays as it is."""

import pytest
import torch

from hybridcls.models import HybridBackbone
from hybridcls.models.backbones.channels_last import cnn_streams, gains_by_channels_last, set_channels_last


def test_convolutions_see_the_layout_and_parameters_keep_theirs():
    torch.manual_seed(0)
    model = HybridBackbone(cnn=dict(model_name='test_efficientnet'), vit=dict(model_name='test_vit'), img_size=32)
    model.eval()  # the statistics of two images would magnify what rounding does
    images, seen, found = torch.rand(2, 3, 32, 32), [], []
    model.cnn.model.conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.vit.model.patch_embed.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for names in ([], ['cnn']):
        set_channels_last(model, names)
        sum(feature.square().sum() for feature in model(images)).backward()
        found.append([param.grad for param in model.parameters()])
        model.zero_grad()
    assert [tensor.is_contiguous() for tensor in seen] == [True, True, False, True]
    assert seen[2].is_contiguous(memory_format=torch.channels_last)
    for param, one, other in zip(model.parameters(), *found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        # Fused optimizers of a CPU take memory as it comes: of another layout they would update other numbers.
        assert param.is_contiguous()
        assert other.is_contiguous()


@pytest.mark.parametrize(
    ('name', 'gains'),
    [
        ('efficientnet_b0', True),
        ('mobilenetv3_small_100', True),
        ('resnext50_32x4d', True),
        ('resnet50', True),
        ('resnet18', False),
        ('convnext_atto', False),
    ],
)
def test_which_kinds_gain(name, gains):
    with torch.device('meta'):
        model = torch.nn.Module()
        import timm

        model.model = timm.create_model(name)
    assert gains_by_channels_last(model) == gains


def test_only_what_stands_under_cnn():
    backbone = HybridBackbone(vit=dict(model_name='test_vit'), img_size=32)
    assert cnn_streams(backbone) == {}
    model = torch.nn.Module()
    model.backbone = HybridBackbone(cnn=dict(model_name='test_resnet'))
    assert list(cnn_streams(model)) == ['backbone.cnn']
