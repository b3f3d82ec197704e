"""Several maps a stream are those of timm's ``features_only=True``, as mmdet's and mmseg's necks take them."""

import pytest
import timm
import torch
from torch import nn

from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.classifiers import HybridClassifier
from hybridcls.registry import MODELS

SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
CASES = {
    'test_resnet': ('cnn', {}, (1, 2, 3, 4), (4, 8, 16, 32)),
    'test_efficientnet': ('cnn', {}, (2, 4), (8, 32)),
    'test_convnext': ('cnn', {}, (0, 1, 2), (4, 8, 16)),
    'test_vit': ('vit', {}, (1, -1), (16, 16)),
    'swin_tiny_patch4_window7_224': ('vit', SWIN, (0, 3), (4, 32)),
}


def backbone(stream, **cfg):
    return HybridBackbone(**{stream: cfg}, img_size=64)


def normalized(images, model):
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    return (images - mean) / std


@pytest.mark.parametrize('name', CASES)
def test_they_are_timms_own(name):
    stream, arguments, indices, strides = CASES[name]
    size = dict(img_size=64) if stream == 'vit' else {}
    theirs = timm.create_model(name, features_only=True, out_indices=indices, **arguments, **size).eval()
    ours = backbone(stream, model_name=name, out_indices=indices, **arguments).eval()
    model = getattr(ours, stream).model
    names = {key.removeprefix('model.').replace('stages_', 'stages.').replace('stem_', 'stem.'): value
             for key, value in theirs.state_dict().items()}  # fmt: skip
    names = {key.replace('layers_', 'layers.'): value for key, value in names.items()}
    model.load_state_dict({key: names[key] for key in model.state_dict()})
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = ours(images)
        expected = theirs(normalized(images, model))
    if stream == 'vit' and expected[0].shape[-1] == maps[0].shape[1]:
        expected = [one.permute(0, 3, 1, 2) for one in expected]  # timm's own are channels-last there
    assert len(maps) == len(indices)
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert ours.out_channels == tuple(one.shape[1] for one in maps)
    assert ours.strides == strides == tuple(64 // one.shape[-1] for one in maps)
    assert ours.out_indices == tuple(index % len(model.feature_info) for index in indices)


def test_no_weight_is_left_without_a_gradient():
    for name, (stream, arguments, indices, _) in CASES.items():
        ours = backbone(stream, model_name=name, out_indices=indices, **arguments)
        sum(one.square().mean() for one in ours(torch.rand(2, 3, 64, 64))).backward()
        assert not [key for key, param in ours.named_parameters() if param.grad is None], name
        depths = {ours.get_layer_depth(key, '') for key, _ in ours.named_parameters()}
        assert min(depth for depth, _ in depths) == 0, name


def test_weights_of_the_whole_model_and_of_a_run_load(tmp_path):
    whole = timm.create_model('test_convnext')
    torch.save(whole.state_dict(), tmp_path / 'whole.pth')
    cfg = dict(model_name='test_convnext', out_indices=(0, 1))
    ours = backbone('cnn', checkpoint_path=str(tmp_path / 'whole.pth'), **cfg)
    assert ours.state_dict()
    for key, value in ours.cnn.model.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key])
    torch.save(
        dict(state_dict={f'backbone.{key}': value for key, value in ours.state_dict().items()}), tmp_path / 'run'
    )
    again = backbone('cnn', checkpoint_path=str(tmp_path / 'run'), **cfg)
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in again.state_dict().items())


def test_two_streams_levers_and_a_list_for_the_neck():
    @MODELS.register_module(force=True)
    class NeckOfLists(nn.Module):
        """What mmdet's FPN asserts of its arguments and its input."""

        def __init__(self, in_channels, out_channels):
            super().__init__()
            assert isinstance(in_channels, list)
            self.convs = nn.ModuleList(nn.Conv2d(count, out_channels, 1) for count in in_channels)
            self.out_channels = out_channels

        def forward(self, inputs):
            assert len(inputs) == len(self.convs)
            return (sum(conv(one).mean((2, 3)) for conv, one in zip(self.convs, inputs, strict=True)),)

    streams = dict(
        cnn=dict(model_name='test_resnet', out_indices=(3, 4)), vit=dict(model_name='test_vit', out_indices=(2, 5))
    )
    try:
        model = HybridClassifier(
            dict(type='HybridBackbone', img_size=64, use_cbam=True, **streams),
            dict(type='NeckOfLists', out_channels=8),
            dict(type='LinearHead', num_classes=3),
        )
    finally:
        MODELS.module_dict.pop('NeckOfLists')
    assert model.backbone.out_channels == (192, 96, 64, 64)
    assert model.backbone.out_indices == (0, 1, 2, 3)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_alone_before_a_head_the_last_map_is_averaged():
    cfg = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', out_indices=(2, 3)), img_size=64)
    model = HybridClassifier(cfg, head=dict(type='LinearHead', num_classes=3)).eval()
    maps = model.backbone.cnn(torch.ones(1, 3, 64, 64))
    features = model.extract_feat(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(features[-1], maps[-1].mean((2, 3)))
    assert [one.dim() for one in features] == [2, 2]


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (
            dict(out_indices=(1, 7)),
            ValueError,
            r'out_indices in \[-5, 4\], got 7\. test_resnet has 5 maps, of strides 2, 4',
        ),
        (dict(out_indices=(1, 1)), ValueError, r'each map once, got \(1, 1\)'),
        (dict(out_indices=()), ValueError, r'each map once, got \(\)'),
        (dict(out_indices=(1.5,)), TypeError, 'expected out_indices to be an integer, got 1.5'),
        (dict(out_indices=(1,), output='vector'), ValueError, "out_indices gives maps, and output='vector'"),
    ],
)
def test_what_cannot_be(keys, error, message):
    with pytest.raises(error, match=message):
        backbone('cnn', model_name='test_resnet', **keys)


def test_token_learner_gives_no_maps():
    with pytest.raises(ValueError, match='TokenLearner gives tokens, and out_indices of vit asks for maps'):
        HybridBackbone(vit=dict(model_name='test_vit', out_indices=(1, 2)), token_learner_tokens=4)
