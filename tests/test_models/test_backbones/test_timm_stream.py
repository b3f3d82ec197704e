"""Every family of timm models that a stream may be, against the bare timm model."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file

from hybridcls.models.backbones import HybridBackbone, TimmStream
from hybridcls.models.building.shape_probe import probe_output

SWIN = dict(depths=(1, 1, 2, 1), embed_dim=24, num_heads=(1, 2, 4, 8))
PLAIN = dict(depth=2, embed_dim=48, num_heads=3)
# name: (arguments that make it small, two image sizes, stride, channels)
CNNS = {
    'test_convnext': ({}, (64, 96), 32, 64),
    'convnextv2_atto': (dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32)), (64, 96), 32, 32),
    'test_resnet': ({}, (64, 96), 32, 96),
    'test_efficientnet': ({}, (64, 96), 32, 256),
    'regnety_002': ({}, (64, 96), 32, 368),
}
VITS = {
    'vit_tiny_patch16_224': (PLAIN, (64, 96), 16, 48),
    'deit_tiny_patch16_224': (PLAIN, (64, 96), 16, 48),
    'deit_tiny_distilled_patch16_224': (PLAIN, (64, 96), 16, 48),
    'eva02_tiny_patch14_224': (PLAIN, (56, 84), 14, 48),
    'beit_base_patch16_224': (PLAIN, (64, 96), 16, 48),
    'vit_base_patch16_siglip_224': (PLAIN, (64, 96), 16, 48),  # pools by attention
    'swin_tiny_patch4_window7_224': (dict(SWIN, window_size=4), (64, 96), 32, 192),
    'swinv2_base_window12_192_22k': (SWIN, (64, 96), 32, 192),  # an old name
}
FAMILIES = {**CNNS, **VITS}


def build(name, size=None, **keys):
    torch.manual_seed(0)
    arguments, sizes, _, _ = FAMILIES[name]
    stream = TimmStream(name, img_size=size or sizes[0], **arguments, **keys)
    for parameter in stream.parameters():  # timm starts some norms and layer scales at (nearly) zero
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=1, std=0.1)
    return stream


def bare(name, stream, size):
    """The timm model as timm gives it, with the weights of a stream (whose pooling may have been taken off)."""
    arguments = dict(FAMILIES[name][0], **({'img_size': size} if name in VITS else {}))
    model = timm.create_model(name, num_classes=0, **arguments).eval()
    model.load_state_dict(stream.model.state_dict(), strict=False)
    return model


def normalised(model, images):
    """With the statistics of its pretraining, by hand."""
    config = model.pretrained_cfg
    return torch.stack([(images[:, c] - config['mean'][c]) / config['std'][c] for c in range(3)], dim=1)


def images(size, batch=2):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('name', FAMILIES)
def test_shapes_at_two_sizes(name):
    _, sizes, stride, channels = FAMILIES[name]
    for size in sizes:
        grid = size // stride
        wanted = dict(map=(1, channels, grid, grid), tokens=(1, grid * grid, channels), vector=(1, channels))
        for output, shape in wanted.items():
            stream = build(name, size, output=output)
            assert stream.out_channels == channels
            assert probe_output(stream, size, size).shape == shape  # values follow in the next tests


@pytest.mark.parametrize('name', FAMILIES)
def test_vector_is_timms_own(name):
    size = FAMILIES[name][1][0]
    stream = build(name, output='vector').eval()
    model = bare(name, stream, size)
    with torch.no_grad():
        torch.testing.assert_close(stream(images(size)), model(normalised(model, images(size))), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', FAMILIES)
def test_map_and_tokens_are_timms_features(name):
    size, stride = FAMILIES[name][1][0], FAMILIES[name][2]
    stream = build(name, output='map').eval()
    tokens = build(name, output='tokens').eval()
    model = bare(name, stream, size)
    with torch.no_grad():
        feature = model.forward_features(normalised(model, images(size)))
        if feature.dim() == 3:
            feature = feature[:, getattr(model, 'num_prefix_tokens', 0) :]
            feature = model.fc_norm(feature) if hasattr(model, 'fc_norm') else feature
            feature = feature.reshape(2, size // stride, size // stride, -1)
        elif 'convnext' in name:
            feature = model.head.norm(feature)
        if feature.shape[1] != stream.out_channels:
            feature = feature.permute(0, 3, 1, 2)
        torch.testing.assert_close(stream(images(size)), feature, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(tokens(images(size)), feature.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('output', ['map', 'vector'])
def test_every_parameter_has_a_gradient_and_a_depth(name, output):
    stream = build(name, output=output)
    stream(images(FAMILIES[name][1][0])).square().sum().backward()
    assert [n for n, p in stream.named_parameters() if p.grad is None] == []
    depths = [stream.get_layer_depth(n) for n, _ in stream.named_parameters()]
    (total,) = {number for _, number in depths}
    assert {depth for depth, _ in depths} | {total - 1} == set(range(total))  # the last is the classifier's
    first = next(n for n, m in stream.named_modules() if isinstance(m, torch.nn.Conv2d))
    assert stream.get_layer_depth(f'{first}.weight')[0] == 0


@pytest.mark.parametrize('name', FAMILIES)
def test_checkpointing_changes_no_gradient(name):
    if name == 'regnety_002':
        pytest.skip('its checkpointing is that of test_resnet, and it is the slowest here')
    grads = {}
    for with_cp in (False, True):
        stream = build(name, with_cp=with_cp, frozen_stages=0)  # nothing before the checkpoints has a gradient
        torch.manual_seed(2)
        stream(images(FAMILIES[name][1][0])).square().sum().backward()
        grads[with_cp] = {n: p.grad for n, p in stream.named_parameters() if p.requires_grad}
    assert grads[False]
    torch.testing.assert_close(grads[True], grads[False], rtol=1e-4, atol=1e-5)


def test_each_stream_has_the_normalisation_of_its_pretraining():
    beit, resnet = build('beit_base_patch16_224'), build('regnety_002')
    assert beit.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    torch.testing.assert_close(resnet.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(resnet.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))
    assert not {'mean', 'std'} & set(resnet.state_dict())  # checkpoints hold what was learned
    own = build('regnety_002', mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    own.load_state_dict(resnet.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(own(normalised(own.model, images(64))), resnet.eval()(images(64)))


def test_normalisation_of_grey_and_many_band_images():
    stream = TimmStream('regnety_002', in_chans=1)
    torch.testing.assert_close(stream.mean, torch.full((1, 1, 1), (0.485 + 0.456 + 0.406) / 3))
    assert TimmStream('test_vit', img_size=64, in_chans=5).eval()(torch.rand(1, 5, 64, 64)).shape == (1, 64)
    with pytest.raises(ValueError, match=r'test_resnet has input channels \(1\), got mean=\(0.5, 0.5\)'):
        TimmStream('test_resnet', in_chans=1, mean=(0.5, 0.5))


def drop_rates(module):
    return [m.drop_prob for m in module.modules() if type(m).__name__.startswith('DropPath')]


@pytest.mark.parametrize('name', ['test_convnext', 'vit_tiny_patch16_224', 'swinv2_base_window12_192_22k'])
def test_drop_path_rate_is_the_last_blocks(name):
    assert max(drop_rates(build(name, drop_path_rate=0.3))) == pytest.approx(0.3)
    assert drop_rates(build(name)) == []  # Swin has 0.1 by itself


def test_models_without_stochastic_depth():
    assert TimmStream('dla46_c').out_channels == 256
    with pytest.raises(TypeError, match="dla46_c takes no argument 'drop_path_rate'"):
        TimmStream('dla46_c', drop_path_rate=0.1)


@pytest.mark.parametrize('container', ['bare', 'state_dict', 'model', 'safetensors'])
@pytest.mark.parametrize(
    ('name', 'head'),
    [('vit_tiny_patch16_224', 'head'), ('test_resnet', 'fc'), ('swinv2_base_window12_192_22k', 'head.fc')],
)
def test_checkpoint_path(tmp_path, container, name, head):
    arguments, (size, _), _, _ = FAMILIES[name]
    torch.manual_seed(5)
    source = timm.create_model(name, num_classes=7, **arguments, **({'img_size': size} if name in VITS else {}))
    state = source.state_dict()
    assert f'{head}.weight' in state
    path = tmp_path / ('w.safetensors' if container == 'safetensors' else 'w.pth')
    if container == 'safetensors':
        save_file(state, path)
    else:
        torch.save(state if container == 'bare' else {container: state}, path)
    loaded = build_from(name, path, size).model.state_dict()
    assert len(loaded) > 10
    for key, value in loaded.items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def build_from(name, path, size):
    return TimmStream(name, img_size=size, checkpoint_path=str(path), **FAMILIES[name][0])


@pytest.mark.parametrize(
    'name',
    [
        'vit_tiny_patch16_224',
        'beit_base_patch16_224',
        'eva02_tiny_patch14_224',
        'swin_tiny_patch4_window7_224',
        'swinv2_base_window12_192_22k',
    ],
)
def test_checkpoint_of_another_image_size(tmp_path, name):
    _, (small, large), _, _ = FAMILIES[name]
    source = build(name, small)
    torch.save(source.model.state_dict(), tmp_path / 'w.pth')
    target = build_from(name, tmp_path / 'w.pth', large).eval()
    for key, value in target.model.state_dict().items():
        if value.shape == source.model.state_dict()[key].shape:
            torch.testing.assert_close(value, source.model.state_dict()[key], rtol=0, atol=0)
    assert target(images(large)).isfinite().all()


def test_wrong_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint_path='.*none.pth' does not exist"):
        TimmStream('test_vit', checkpoint_path=str(tmp_path / 'none.pth'))
    path = tmp_path / 'resnet.pth'
    torch.save(timm.create_model('test_resnet', num_classes=0).state_dict(), path)
    with pytest.raises(ValueError, match=r'resnet.pth does not hold .* of test_vit: it lacks all .*\(cls_token'):
        TimmStream('test_vit', checkpoint_path=str(path))
    torch.save({f'backbone.cnn.model.{k}': v for k, v in torch.load(path).items()}, path)
    TimmStream('test_resnet', checkpoint_path=str(path))
    torch.save(timm.create_model('vit_tiny_patch16_224', **dict(PLAIN, depth=3)).state_dict(), path)
    with pytest.raises(ValueError, match=r': it has 6 that are not in the model \(blocks\.2\.'):
        TimmStream('vit_tiny_patch16_224', checkpoint_path=str(path), **PLAIN)
    torch.save(timm.create_model('vit_tiny_patch16_224', **dict(PLAIN, embed_dim=24)).state_dict(), path)
    with pytest.raises(ValueError, match=r'of vit_tiny_patch16_224 with .*has another shape in'):
        TimmStream('vit_tiny_patch16_224', checkpoint_path=str(path), **PLAIN)
    for name, content in [('a.pth', b'no weights'), ('b.pth', b''), ('c.safetensors', b'no weights')]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f'{name}.* cannot be read as a file of weights alone'):
            TimmStream('test_vit', checkpoint_path=str(tmp_path / name))


def test_pretrained_weights_are_compared_too():
    """timm itself loads a model without its classifier by halves, and logs it."""
    weights = timm.create_model('test_vit').state_dict()
    whole = TimmStream('test_vit', pretrained=True, pretrained_cfg_overlay=dict(state_dict=dict(weights)))
    torch.testing.assert_close(whole.model.state_dict()['pos_embed'], weights['pos_embed'])
    del weights['norm.weight']
    with pytest.raises(ValueError, match=r'does not hold .* of test_vit: it lacks 1 of its \d+ layers \(norm\)'):
        TimmStream('test_vit', pretrained=True, pretrained_cfg_overlay=dict(state_dict=weights))


def test_no_network_and_no_weights(monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(
        FileNotFoundError,
        match=r'weights of test_vit are not in the local cache .*HF_HUB_OFFLINE is set.*checkpoint_path.*=False',
    ):
        timm_offline('test_vit')
    with pytest.raises(ValueError, match='timm has no pretrained weights for swinv2_cr_tiny_384'):
        TimmStream('swinv2_cr_tiny_384', pretrained=True)
    with pytest.raises(FileNotFoundError, match=r'local-dir:/nowhere is no folder with a config.json'):
        TimmStream('local-dir:/nowhere')


def timm_offline(name):
    from huggingface_hub import constants

    patch = pytest.MonkeyPatch()
    patch.setattr(constants, 'HF_HUB_OFFLINE', True)  # read from the environment when it was imported
    try:
        return TimmStream(name, pretrained=True)
    finally:
        patch.undo()


@pytest.mark.parametrize(
    'name',
    [
        'test_convnext',
        'test_resnet',
        'test_efficientnet',
        'eva02_tiny_patch14_224',
        'deit_tiny_distilled_patch16_224',
        'swinv2_base_window12_192_22k',
    ],
)
@pytest.mark.parametrize('frozen_stages', [0, 1])
def test_frozen_stages(name, frozen_stages):
    stream = build(name, frozen_stages=frozen_stages, drop_path_rate=0.5).train()
    before = copy.deepcopy(stream.state_dict())
    stream(images(FAMILIES[name][1][0])).square().sum().backward()
    frozen = {n for n, p in stream.named_parameters() if not p.requires_grad}
    learning = dict(stream.named_parameters()).keys() - frozen
    assert frozen
    assert learning
    assert all(p.grad is None for n, p in stream.named_parameters() if n in frozen)
    assert all(p.grad is not None for n, p in stream.named_parameters() if n in learning)
    # In timm's order a frozen parameter comes before every learning one.
    depth = {n: stream.get_layer_depth(n)[0] for n in frozen | learning}
    assert max(depth[n] for n in frozen) < min(depth[n] for n in learning)
    for module_name, module in stream.named_modules():
        own = [f'{module_name}.{n}' for n, _ in module.named_parameters()]
        if own and set(own) <= frozen:
            assert not module.training
    for key, value in stream.state_dict().items():  # running statistics too
        if any(key.startswith(n.rsplit('.', 1)[0] + '.') for n in frozen):
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    stream.eval().train()
    assert all(not stream.model.get_submodule(name).training for name in stream._frozen_modules)


def test_a_stream_that_is_frozen_whole_draws_nothing_at_random():
    stream = build('vit_tiny_patch16_224', frozen_stages=2, drop_path_rate=0.9).train()
    torch.testing.assert_close(stream(images(64)), stream(images(64)), rtol=0, atol=0)
    with pytest.raises(ValueError, match='frozen_stages=4, and vit_tiny_patch16_224 has 2 stages after its stem'):
        build('vit_tiny_patch16_224', frozen_stages=4)


def test_a_frozen_copy_stays_frozen():
    stream = copy.deepcopy(build('test_resnet', frozen_stages=2)).train()
    frozen = [m for m in stream.modules() if list(m.parameters()) and not any(p.requires_grad for p in m.parameters())]
    assert frozen
    assert all(not module.training for module in frozen)


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (dict(model_name='convnextv2_bas'), ValueError, "no model 'convnextv2_bas'. Did you mean 'convnextv2_base'"),
        (dict(model_name=None), ValueError, 'timm has no model None'),
        (dict(model_name='test_vit', frozen_stage=1), TypeError, "'frozen_stage'. Did you mean 'frozen_stages'"),
        (dict(model_name='test_vit', num_classes=3), TypeError, 'num_classes=3 cannot be set'),
        (
            dict(model_name='test_vit', output='maps'),
            ValueError,
            "expected output .* got 'maps'.*Did you mean 'map'",
        ),
        (dict(model_name='test_vit', pretrained='w.pth'), TypeError, 'for a file of your own use checkpoint_path'),
        (dict(model_name='test_vit', drop_path_rate=1.0), ValueError, r'expected drop_path_rate in \[0, 1\), got 1.0'),
        (dict(model_name='test_vit', img_size=65), ValueError, 'test_vit cannot take images of 65 x 65'),
        pytest.param(
            dict(model_name='test_convnext', img_size=8),
            ValueError,
            'test_convnext cannot take images of 8 x 8',
            marks=pytest.mark.skipif(torch.__version__ < '2.13', reason='torch 2.6 does not see it without computing'),
        ),
        (dict(model_name='swin_tiny_patch4_window7_224', img_size=70), ValueError, 'Use 68 or 72'),
        (dict(model_name='dla46_c', with_cp=True), ValueError, 'dla46_c has no activation checkpointing'),
        (dict(model_name='volo_d1_224', output='tokens', img_size=64), ValueError, '17 tokens of volo.* form no grid'),
    ],
)
def test_what_cannot_be_built(keys, error, message):
    with pytest.raises(error, match=message):
        TimmStream(**keys)


def test_images_of_another_size_than_it_was_built_for():
    stream = build('swinv2_base_window12_192_22k', 64)
    with pytest.raises(ValueError, match=r'expected images of 64 x 64, got 96 x 96. Set img_size at the top'):
        stream(images(96))
    assert build('test_resnet', 64).eval()(images(96)).shape == (2, 96)  # this one takes any


def test_images_that_are_not_square():
    stream = TimmStream('swinv2_base_window12_192_22k', output='map', img_size=(64, 96), **SWIN).eval()
    assert stream(torch.rand(1, 3, 64, 96)).shape == (1, 192, 2, 3)
    stream = TimmStream('test_vit', output='map', img_size=(64, 96)).eval()
    assert stream(torch.rand(1, 3, 64, 96)).shape == (1, 64, 4, 6)


def test_the_base_models_of_the_paper_without_memory():
    """The reference pair has the channels that are written about it; no arithmetic is done."""
    with torch.device('meta'):
        assert timm.create_model('convnextv2_base', num_classes=0).num_features == 1024
        swin = timm.create_model('swinv2_base_window12_192_22k', num_classes=0)
    assert swin.num_features == 1024
    assert swin.patch_embed.img_size == (192, 192)


@pytest.fixture
def reworded(monkeypatch):
    """timm as it may be tomorrow: another text in its TypeErrors."""
    create = timm.create_model

    def create_model(*args, **kwargs):
        try:
            return create(*args, **kwargs)
        except TypeError:
            raise TypeError('no') from None

    monkeypatch.setattr(timm, 'create_model', create_model)


@pytest.mark.usefixtures('reworded')
def test_rejected_arguments_are_dropped_if_filled_and_named_if_written():
    """Nothing is decided by the text of an error."""
    backbone = HybridBackbone(cnn=dict(model_name='test_resnet'), vit=dict(model_name='ghostnet_050'), img_size=64)
    assert [type(getattr(backbone, name).model).__name__ for name in ('cnn', 'vit')] == ['ResNet', 'GhostNet']
    assert max(drop_rates(TimmStream('test_vit', default_drop_path_rate=0.2))) == pytest.approx(0.2)
    assert max(drop_rates(TimmStream('test_vit', default_drop_path_rate=0.2, drop_path_rate=0.0)), default=0) == 0
    for arguments, says in (
        (dict(drop_path_rate=0.1), "ghostnet_050 takes no argument 'drop_path_rate'"),
        (dict(wrong=1, depths=2), "ghostnet_050 takes no argument 'wrong'.*_delete_=True, model_name="),
        (dict(drop_path_rat=0.1), "takes no argument 'drop_path_rat'. Did you mean 'drop_path_rate'"),
    ):
        with pytest.raises(TypeError, match=says):
            TimmStream('ghostnet_050', **arguments)
    with pytest.raises(TypeError, match=r"test_vit cannot be built with num_heads='3' \(no\)"):
        TimmStream('test_vit', num_heads='3', img_size=64)


def test_a_swin_v2_whose_last_window_is_one_token_gives_numbers():
    stream = TimmStream(
        'swinv2_tiny_window8_256', img_size=32, window_size=4, embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)
    )
    assert stream.model.layers[-1].blocks[0].window_size == (1, 1)
    assert stream.eval()(torch.rand(1, 3, 32, 32)).isfinite().all()
