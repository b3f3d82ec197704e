"""Weights from wherever they come are all loaded into a timm model, or a sentence says which layers differ."""

import pytest
import timm
import torch
import torchvision
from at_night import at_night
from torch import nn

from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.weights.timm_loading import load_timm_weights

SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
# Families with a function that converts weights of other projects, which must leave our own alone.
MODELS = {
    'test_vit': {},
    'test_convnext': {},
    **({'test_maxvit': {}} if 'test_maxvit' in timm.list_models('test_*') else {}),  # timm 1.0.22 has none
    'beit_base_patch16_224': dict(embed_dim=48, depth=2, num_heads=3),
    'eva02_tiny_patch14_224': dict(patch_size=16, embed_dim=48, depth=2, num_heads=3),
    'swin_tiny_patch4_window7_224': SWIN,
    'swinv2_tiny_window8_256': SWIN,
    'tf_mobilenetv3_small_minimal_100': {},
}


def randomized(model):
    torch.manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point() and value.numel():
            value.copy_(torch.rand_like(value))
    return model


def check_equal(model, state):
    assert model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


@pytest.mark.parametrize('output', ['vector', 'map'])
@pytest.mark.parametrize('name', MODELS)
def test_a_checkpoint_of_a_run_of_two_streams(tmp_path, name, output):
    other = 'test_resnet' if name != 'test_resnet' else 'test_vit'
    cfg = dict(model_name=name, output=output, **MODELS[name])
    run = nn.ModuleDict(
        dict(backbone=HybridBackbone(cnn=dict(model_name=other), vit=cfg, img_size=64), head=nn.Linear(2, 2))
    )
    randomized(run)
    torch.save(dict(state_dict=run.state_dict(), meta=dict(epoch=3)), tmp_path / 'epoch_3.pth')
    again = HybridBackbone(vit=dict(cfg, checkpoint_path=str(tmp_path / 'epoch_3.pth')), img_size=64)
    check_equal(again.vit.model, run.backbone.vit.model.state_dict())


@pytest.mark.parametrize('prefix', ['', 'module.', 'module._orig_mod.', 'encoder.'])
def test_behind_a_prefix(tmp_path, prefix):
    source = randomized(timm.create_model('test_vit')).state_dict()
    torch.save({f'{prefix}{name}': value for name, value in source.items()}, tmp_path / 'w.pth')
    model = timm.create_model('test_vit', num_classes=0)
    sentence = load_timm_weights('x', model, 'test_vit', str(tmp_path / 'w.pth'))
    check_equal(model, source)
    assert sentence.startswith(f'test_vit: 78 weights from {tmp_path}/w.pth')
    assert sentence.endswith('without head.weight, head.bias.')
    assert ("behind 'encoder.'" in sentence) == (prefix == 'encoder.')


@pytest.mark.parametrize(
    'name',
    [
        'resnet18',
        'densenet121',
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ('vgg11_bn', 'inception_v3')),
    ],
)
def test_torchvisions_files_where_timm_knows_the_names(tmp_path, name):
    """The oracle is torchvision's own network, on the same images."""
    create = getattr(torchvision.models, name)
    source = create(init_weights=True) if name == 'inception_v3' else create()
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    model = timm.create_model(name, num_classes=0).eval()
    load_timm_weights('x', model, name, str(tmp_path / 'w.pth'))
    last = (
        source.classifier[-1] if name.startswith('vgg') else getattr(source, 'fc', getattr(source, 'classifier', None))
    )
    inputs = []
    last.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        source.eval()(images)
        torch.testing.assert_close(model(images).flatten(1), inputs[0].flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', at_night(['vit_b_16', 'swin_t', 'efficientnet_b0'], 'swin_t'))
def test_torchvisions_files_that_have_other_names(tmp_path, name):
    with torch.device('meta'):
        state = getattr(torchvision.models, name)().state_dict()
    torch.save({key: value.shape and torch.zeros(1) for key, value in state.items()}, tmp_path / 'w.pth')
    model = timm.create_model('test_vit', num_classes=0)
    with pytest.raises(ValueError, match=r"it lacks .* of its 40 layers \(cls_token.*It seems to hold torchvision's"):
        load_timm_weights('x', model, 'test_vit', str(tmp_path / 'w.pth'))


def test_another_depth_another_width_and_adapters(tmp_path):
    state = timm.create_model('resnet34').state_dict()
    with pytest.raises(
        ValueError, match=r'of resnet18: it has 32 that are not in the model \(layer1\.2\.conv1, .*a ResNet'
    ):
        load_timm_weights('x', timm.create_model('resnet18', num_classes=0), 'resnet18', dict(state))
    with pytest.raises(ValueError, match=r'of resnet50: it lacks 34 of its .*another shape in \d+ of them \(layer1'):
        load_timm_weights('x', timm.create_model('resnet50', num_classes=0), 'resnet50', dict(state))
    state = timm.create_model('test_vit').state_dict()
    state['blocks.0.attn.qkv.lora_A.weight'] = torch.zeros(2, 64)
    with pytest.raises(ValueError, match='trained with LoRA: merge its adapters first'):
        load_timm_weights('x', timm.create_model('test_vit', num_classes=0), 'test_vit', state)


def test_several_models_of_one_kind_are_refused():
    state = timm.create_model('test_vit').state_dict()
    both = {f'members.{n}.{name}': value for n in (0, 1) for name, value in state.items()}
    with pytest.raises(ValueError, match=r"holds several models of this kind, behind 'members\.0\.', 'members\.1\.'"):
        load_timm_weights('x', timm.create_model('test_vit', num_classes=0), 'test_vit', both)


def test_channels_and_sizes_are_adapted_and_told():
    for before, after in ((1, 3), (3, 1)):
        state = randomized(timm.create_model('test_vit', img_size=64, in_chans=before)).state_dict()
        model = timm.create_model('test_vit', img_size=96, in_chans=after, num_classes=0)
        sentence = load_timm_weights('x', model, 'test_vit', state)
        assert 'resized: pos_embed from (1, 17, 64) to (1, 37, 64), patch_embed.proj.weight from' in sentence
        torch.testing.assert_close(
            model.patch_embed.proj.weight.sum(1), state['patch_embed.proj.weight'].sum(1), rtol=1e-5, atol=1e-5
        )
