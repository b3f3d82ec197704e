"""Layers are found by a rule, patches go back to their places, and maps are those of the gradients."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.stream_maps import MappedLayer, _as_map, activation_maps, mapped_layers
from hybridcls.compat.torch_compiler import compiler_counts

LEVERS = dict(
    use_cbam=True, token_merging_ratio=0.2, lora_rank=2, token_learner_tokens=dict(num_tokens=4, after_block=3)
)
PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)


def loaded(folder, backbone, neck=None, head=LINEAR):
    cfg = config_of(backbone, head)
    cfg['model']['neck'] = neck
    return hybridcls.load(write_checkpoint(folder / 'epoch_1.pth', cfg)[0], 'cpu')


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(3, 3, 64, 64)


def test_of_a_cnn_it_is_the_class_activation_map(tmp_path, images):
    """Mean pooling and a linear head: the weights of the class times the last map."""
    model = loaded(tmp_path, CNN)
    layers = mapped_layers(model, images)
    found = activation_maps(model, images, layers)
    network = model.model
    with torch.no_grad():
        last = network.backbone.cnn.model.forward_features(network.backbone.cnn.normalized(images))
        logits = network(images)
    assert found.labels.tolist() == logits.argmax(1).tolist()
    expected = torch.einsum('bc,bchw->bhw', network.head.fc.weight[found.labels], last).relu()
    expected = expected / expected.amax((1, 2), keepdim=True).clamp_min(1e-20)
    assert expected.shape == (3, 2, 2)
    torch.testing.assert_close(found.maps['cnn'], expected.detach(), rtol=1e-4, atol=1e-5)
    assert all(param.grad is None for param in network.parameters())


def test_maps_of_a_compiled_model_compile_nothing(tmp_path, images):
    model = loaded(tmp_path, CNN)
    model.wanted_settings = InferenceSettings(compile='eager')
    model.network.use(model.wanted_settings)
    model.network.predict([dict(inputs=255 * image, data_samples=DataSample()) for image in images])
    before = compiler_counts().graphs
    activation_maps(model, images, mapped_layers(model, images))
    assert compiler_counts().graphs == before


def test_of_a_vit_it_is_the_gradient_of_the_last_block(tmp_path, images):
    """The last block, the norm and the head again, by hand, from the tokens that go in."""
    model = loaded(tmp_path, VIT)
    layers = mapped_layers(model, images)
    assert str(layers['vit']) == 'what goes into backbone.vit.model.blocks.5'
    found = activation_maps(model, images, layers)
    vit = model.model.backbone.vit.model
    kept = []
    handle = vit.blocks[5].register_forward_pre_hook(lambda block, inputs: kept.append(inputs[0].detach()))
    model.model(images)
    handle.remove()
    tokens = kept[0].requires_grad_()
    logits = model.model.head((vit.forward_head(vit.norm(vit.blocks[5](tokens))),))
    (gradients,) = torch.autograd.grad(logits.gather(1, found.labels[:, None]).sum(), tokens)
    weights = gradients[:, 1:].mean(1)
    expected = torch.einsum('bc,bnc->bn', weights, tokens.detach()[:, 1:]).relu().view(3, 4, 4)
    torch.testing.assert_close(found.maps['vit'], expected / expected.amax((1, 2), keepdim=True), rtol=1e-4, atol=1e-5)


def test_with_all_levers_patches_keep_their_places(tmp_path, images):
    model = loaded(tmp_path, PAIR | LEVERS, dict(type='DHAFusion', fusion_dim=16))
    layers = mapped_layers(model, images)
    assert {name: str(layer) for name, layer in layers.items()} == dict(
        cnn='backbone.cnn',
        vit='what goes into backbone.vit.model.blocks.2',  # before the summaries
    )
    before = model.model(images)
    found = activation_maps(model, images, layers)
    assert {name: tuple(one.shape) for name, one in found.maps.items()} == dict(cnn=(3, 2, 2), vit=(3, 4, 4))
    torch.testing.assert_close(model.model(images), before, rtol=0, atol=0)  # merging is on again
    layers = mapped_layers(model, images, dict(vit='blocks.1'))
    assert layers['vit'].name == 'backbone.vit.model.blocks.1'


SWIN = dict(
    model_name='swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 1, 1, 1), window_size=4
)
ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=24)
OTHER_VIT = dict(
    type='mmpretrain.VisionTransformer', arch=ARCH, img_size=64, patch_size=16, out_type='cls_token', output='vector'
)


@pytest.mark.parametrize(
    ('streams', 'size', 'shape'),
    [
        (dict(vit=SWIN), 128, (4, 4)),
        (dict(cnn=dict(type='mmpretrain.ResNet', depth=18)), 64, (2, 2)),
        (dict(vit=OTHER_VIT), 64, (4, 4)),
    ],
    ids=['swin', 'mmpretrain resnet', 'mmpretrain vit'],
)
def test_other_backbones(tmp_path, streams, size, shape):
    model = loaded(tmp_path, dict(type='HybridBackbone', img_size=size, pooled=True, **streams))
    images = torch.rand(2, 3, size, size)
    found = activation_maps(model, images, mapped_layers(model, images))
    (maps,) = found.maps.values()
    assert tuple(maps.shape[1:]) == shape
    assert bool(maps.any())


def test_a_place_in_the_image_is_that_place_in_the_map():
    """Tokens without the class token fill a grid row by row, with the image's ratio; NHWC maps are turned."""
    tokens = torch.arange(1 + 6).float().view(1, 7, 1)
    grid = _as_map(tokens, MappedLayer('x', torch.nn.Identity(), False, 1, False), 64, 96)
    np.testing.assert_array_equal(grid[0, 0].numpy(), [[1, 2, 3], [4, 5, 6]])
    rows = torch.rand(1, 4, 5, 3)
    assert _as_map(rows, MappedLayer('x', torch.nn.Identity(), False, 0, True), 64, 64).shape == (1, 3, 4, 5)


def test_what_cannot_be_mapped_is_a_sentence(tmp_path):
    model = loaded(tmp_path, CNN)
    with pytest.raises(ValueError, match='the features of cnn have a single position'):
        mapped_layers(model, torch.rand(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"expected a layer of cnn, such as .*, got 'nowhere'"):
        mapped_layers(model, torch.rand(1, 3, 64, 64), dict(cnn='nowhere'))
    with pytest.raises(ValueError, match="expected layers of the streams cnn, got one of 'vit'"):
        mapped_layers(model, torch.rand(1, 3, 64, 64), dict(vit='blocks.0'))
