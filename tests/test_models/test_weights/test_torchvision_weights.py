"""torchvision's weights in timm's models: the oracle is torchvision's own network, on the same images."""

import pytest
import timm
import torch
import torchvision
from at_night import at_night
from torch import nn

from hybridcls.models.backbones import TimmStream
from hybridcls.models.weights.torchvision_weights import TWINS, from_torchvision, twin_of_weights

# One of each kind, and each architecture that has something of its own.
SMALL = ['swin_tiny_patch4_window7_224', 'swinv2_tiny_window8_256', 'convnext_tiny',
         'efficientnet_b0', 'efficientnetv2_s', 'mobilenetv2_100', 'mobilenetv3_large_100',
         'mobilenetv3_small_100']  # fmt: skip


@torch.no_grad()
def randomized(model):
    """Values that differ everywhere, and keep activations in range."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith('running_var') or (name.endswith('weight') and value.dim() == 1):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and not name.endswith('_coords_table'):
            value.normal_(0, value[0].numel() ** -0.5 if value.dim() > 1 else 0.1, generator=generator)
    return model.eval()


def check_same_features(name, tmp_path, source, **options):
    """Compare with torchvision's model without its last layer, in double precision."""
    torch.save(randomized(source).state_dict(), tmp_path / 'w.pth')
    if TWINS[name].bn_eps is not None:
        options['bn_eps'] = TWINS[name].bn_eps
    model = TimmStream(name, checkpoint_path=str(tmp_path / 'w.pth'), mean=(0, 0, 0), std=(1, 1, 1), **options)
    last = [key for key, module in source.named_modules() if isinstance(module, nn.Linear)][-1]
    source.set_submodule(last, nn.Identity())
    size = options.get('img_size', 96)
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        expected = source.double()(images)
        assert expected.std() > 1e-3  # images and weights reach it
        torch.testing.assert_close(model.eval().double()(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', at_night(SMALL, 'swin_tiny_patch4_window7_224', 'efficientnetv2_s', 'mobilenetv2_100'))
def test_the_features_are_those_of_torchvision(tmp_path, name):
    options = {'swin': dict(img_size=224), 'swinv2': dict(img_size=256)}.get(name.partition('_')[0], {})
    check_same_features(name, tmp_path, getattr(torchvision.models, TWINS[name].name)(weights=None), **options)


def test_the_features_of_a_vision_transformer_are_those_of_torchvision(tmp_path):
    source = torchvision.models.VisionTransformer(64, 32, 2, 12, 768, 3072)
    check_same_features('vit_base_patch32_224', tmp_path, source, img_size=64, depth=2)


@pytest.mark.nightly
@pytest.mark.parametrize(
    'name', [name for name in TWINS if name not in SMALL and 'large_patch' not in name and 'huge' not in name]
)
def test_the_features_of_all_twins(tmp_path, name):
    options = dict(vit=dict(img_size=224), swin=dict(img_size=224), swinv2=dict(img_size=256))
    source = getattr(torchvision.models, TWINS[name].name)(weights=None)
    check_same_features(name, tmp_path, source, **options.get(name.partition('_')[0], {}))


@pytest.mark.parametrize(
    'name', [name if name in SMALL else pytest.param(name, marks=pytest.mark.nightly) for name in TWINS]
)
def test_every_twin_has_all_weights_of_timms_model(name):
    with torch.device('meta'):
        source = getattr(torchvision.models, TWINS[name].name)(weights=None).state_dict()
        model = timm.create_model(name, num_classes=1000)
    found = {key: tuple(value.shape) for key, value in from_torchvision(model, source).items()}
    assert found == {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert twin_of_weights(source) == name


def test_the_order_of_a_file_does_not_matter(tmp_path):
    source = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    ordered = {name: source[name] for name in sorted(source)}  # as a .safetensors file has them
    torch.save(ordered, tmp_path / 'w.pth')
    model = TimmStream('mobilenetv3_small_100', checkpoint_path=str(tmp_path / 'w.pth'), bn_eps=1e-3).model
    assert torch.equal(model.blocks[4][1].conv_pwl.weight, source['features.10.block.3.0.weight'])
    assert torch.equal(model.conv_head.weight.flatten(1), source['classifier.0.weight'])


def test_what_is_no_twin_ends_in_a_sentence(tmp_path):
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / 'w.pth')
    path = str(tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=r'for BatchNorm of eps=0\.001.*model\.backbone\.cnn\.bn_eps=0\.001'):
        TimmStream('mobilenetv3_small_100', checkpoint_path=path)
    for other in ('mobilenetv3_large_100', 'efficientnet_b0', 'tf_mobilenetv3_small_100', 'test_vit'):
        with pytest.raises(ValueError, match="hold torchvision's twin of timm's mobilenetv3_small_100"):
            TimmStream(other, checkpoint_path=path)


def test_another_size_and_a_part_of_a_model(tmp_path):
    source = torchvision.models.VisionTransformer(224, 32, 1, 12, 768, 3072).state_dict()
    torch.save(source, tmp_path / 'w.pth')
    options = dict(checkpoint_path=str(tmp_path / 'w.pth'), img_size=384, depth=1)
    model = TimmStream('vit_base_patch32_384', **options).model
    assert model.pos_embed.shape == (1, 145, 768)
    expected = source['encoder.layers.encoder_layer_0.self_attention.in_proj_weight']
    assert torch.equal(model.blocks[0].attn.qkv.weight, expected)
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / 'w.pth')
    part = TimmStream('mobilenetv2_100', output='map', out_indices=(0, 2), checkpoint_path=str(tmp_path / 'w.pth'))
    assert part.strides == (2, 8)
