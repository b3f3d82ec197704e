"""The backbone of two streams and its levers."""

import copy
import sys

import pytest
import timm
import torch
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from processes import run_processes
from torch import nn

from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.modules import CBAM, TokenLearner
from hybridcls.registry import MODELS

CNN = dict(model_name='test_resnet')
VIT = dict(model_name='test_vit')
PLAIN = dict(model_name='vit_tiny_patch16_224', depth=3, embed_dim=48, num_heads=3)
SWIN = dict(model_name='swinv2_base_window12_192', depths=(1, 1, 2, 1), embed_dim=24, num_heads=(1, 2, 4, 8))
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def build(**keys):
    torch.manual_seed(0)
    return HybridBackbone(**{'cnn': dict(CNN), 'vit': dict(VIT), 'img_size': 64, **keys})


def shapes(backbone, images=IMAGES):
    with torch.no_grad():
        return [tuple(feature.shape) for feature in backbone.eval()(images)]


@pytest.mark.parametrize(
    ('keys', 'wanted'),
    [
        (dict(), [(2, 96, 2, 2), (2, 64)]),
        (dict(cnn=None), [(2, 64)]),
        (dict(vit=None), [(2, 96, 2, 2)]),
        (dict(cnn=dict(CNN, output='vector')), [(2, 96), (2, 64)]),
        (dict(vit=dict(VIT, output='map')), [(2, 96, 2, 2), (2, 64, 4, 4)]),
        (dict(token_learner_tokens=5), [(2, 96, 2, 2), (2, 5, 64)]),
        (dict(token_learner_tokens=dict(num_tokens=3, form='v1')), [(2, 96, 2, 2), (2, 3, 64)]),
        (dict(token_learner_tokens=5, vit=dict(VIT, output='map')), [(2, 96, 2, 2), (2, 5, 64)]),
        (dict(token_learner_tokens=dict(num_tokens=4, after_block=2)), [(2, 96, 2, 2), (2, 64)]),
        (dict(token_learner_tokens=4, vit=SWIN, use_cbam=True), [(2, 96, 2, 2), (2, 4, 192)]),
    ],
)
def test_features_channels_and_gradients(keys, wanted):
    backbone = build(**keys)
    assert shapes(backbone) == wanted
    assert backbone.out_channels == tuple(s[2] if len(s) == 3 else s[1] for s in wanted)
    backbone.train()
    sum(feature.square().sum() for feature in backbone(IMAGES)).backward()
    # The last class token goes nowhere if only patch tokens are summarised, but its attention does.
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_streams_are_timms_models_with_their_own_normalisation():
    backbone = build(
        cnn=dict(model_name='regnety_002'),
        vit=dict(model_name='beit_base_patch16_224', depth=2, embed_dim=48, num_heads=3),
    ).eval()
    cnn = timm.create_model('regnety_002', num_classes=0).eval()
    cnn.load_state_dict(backbone.cnn.model.state_dict())
    vit = timm.create_model(
        'beit_base_patch16_224', num_classes=0, depth=2, embed_dim=48, num_heads=3, img_size=64
    ).eval()
    vit.load_state_dict(backbone.vit.model.state_dict())
    assert cnn.pretrained_cfg['mean'] != vit.pretrained_cfg['mean']
    expected = []
    for model, features in ((cnn, cnn.forward_features), (vit, vit)):
        mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
        with torch.no_grad():
            expected.append(features((IMAGES - mean) / std))
    with torch.no_grad():
        torch.testing.assert_close(backbone(IMAGES), tuple(expected), rtol=1e-5, atol=1e-5)
    # timm's pooled vector is the mean of the map.
    with torch.no_grad():
        mean, std = (torch.tensor(cnn.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
        torch.testing.assert_close(backbone(IMAGES)[0].mean((2, 3)), cnn((IMAGES - mean) / std), rtol=1e-5, atol=1e-5)


def drop_rate(stream):
    return max((m.drop_prob for m in stream.modules() if type(m).__name__.startswith('DropPath')), default=0)


def test_drop_path_is_the_transformers_by_default():
    backbone = build(cnn=dict(model_name='test_convnext'), vit=SWIN)
    assert drop_rate(backbone.cnn) == 0
    assert drop_rate(backbone.vit) == pytest.approx(0.2)
    backbone = build(cnn=dict(model_name='test_convnext', drop_path_rate=0.1), vit=dict(SWIN, drop_path_rate=0.0))
    assert drop_rate(backbone.cnn) == pytest.approx(0.1)
    assert drop_rate(backbone.vit) == 0
    # The default does not keep a transformer out that has no stochastic depth.
    assert build(cnn=None, vit=dict(model_name='levit_128s')).out_channels == (384,)


@pytest.mark.parametrize('vit', [VIT, SWIN])
def test_init_weights_leaves_loaded_weights_alone(tmp_path, vit):
    arguments = {key: value for key, value in vit.items() if key != 'model_name'}
    source = timm.create_model(vit['model_name'], img_size=64, **arguments)
    assert hasattr(source, 'init_weights') or timm.__version__ == '1.0.22'  # the trap: mmengine would call it
    torch.manual_seed(3)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    model = MODELS.build(
        dict(
            type='HybridClassifier',
            backbone=dict(
                type='HybridBackbone',
                cnn=CNN,
                img_size=64,
                use_cbam=True,
                vit=dict(vit, checkpoint_path=str(tmp_path / 'w.pth')),
            ),
            neck=dict(type='DHAFusion', fusion_dim=8),
            head=dict(type='LinearHead', num_classes=2),
        )
    )
    before = copy.deepcopy(model.backbone.state_dict())
    model.init_weights()
    torch.testing.assert_close(model.backbone.state_dict(), before, rtol=0, atol=0)
    for name, value in model.backbone.vit.model.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name], rtol=0, atol=0)
    backbone = model.backbone.eval()
    torch.testing.assert_close(backbone.cbam(torch.ones(1, 96, 2, 2)), torch.ones(1, 96, 2, 2))  # still the identity


@pytest.mark.parametrize('with_cp', [False, True])
def test_later_blocks_see_k_summaries(with_cp):
    backbone = build(cnn=None, vit=PLAIN, token_learner_tokens=dict(num_tokens=4, after_block=2), with_cp=with_cp)
    model, seen = backbone.vit.model, []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    (feature,) = backbone.train()(IMAGES)
    assert seen == [17, 17, 5]  # the class token and 16 patches, then the class token and 4 summaries
    feature.square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    # Against the same blocks called by hand.
    backbone.eval()
    with torch.no_grad():
        tokens = model._pos_embed(model.patch_embed((IMAGES - backbone.vit.mean) / backbone.vit.std))
        tokens = model.blocks[0].forward(tokens)
        tokens = model.blocks[1].forward(tokens)
        tokens = torch.cat([tokens[:, :1], backbone.token_learner(tokens[:, 1:])], 1)
        tokens = model.norm(model.blocks[2].forward(tokens))
        torch.testing.assert_close(backbone(IMAGES)[0], tokens[:, 0])


def test_after_block_with_two_prefix_tokens():
    vit = dict(PLAIN, model_name='deit_tiny_distilled_patch16_224')
    backbone = build(cnn=None, vit=vit, token_learner_tokens=dict(num_tokens=4, after_block=1))
    seen = []
    backbone.vit.model.blocks[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    assert shapes(backbone) == [(2, 48)]
    assert seen == [6]


def test_a_deep_copy_summarises_with_its_own_token_learner():
    backbone = build(cnn=None, vit=PLAIN, token_learner_tokens=dict(num_tokens=4, after_block=1)).eval()
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        torch.testing.assert_close(twin(IMAGES), backbone(IMAGES), rtol=0, atol=0)
        for parameter in backbone.token_learner.parameters():
            parameter.add_(torch.randn_like(parameter))
        moved = backbone(IMAGES)[0]
        twin_feature = twin(IMAGES)[0]
    assert (moved - twin_feature).abs().max() > 1e-4
    twin.token_learner.load_state_dict(backbone.token_learner.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(twin(IMAGES)[0], moved, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (dict(cnn=None, vit=None), ValueError, 'neither cnn nor vit is given'),
        (
            dict(cnn=None, use_cbam=True),
            ValueError,
            'use_cbam works on the map of the CNN stream, and cnn is not given',
        ),
        (dict(cnn=dict(CNN, output='tokens'), use_cbam=True), ValueError, "cnn has output='tokens'"),
        (dict(use_cbam='no'), TypeError, "expected use_cbam=True, False or .*, got use_cbam='no'"),
        (dict(use_cbam=dict(reduktion=4)), TypeError, 'reduktion'),
        (dict(vit=None, token_learner_tokens=4), ValueError, 'works on the vit stream, and vit is not given'),
        (dict(token_learner_tokens=-1), ValueError, r'expected token_learner_tokens in \[0, inf\), got -1'),
        (dict(token_learner_tokens=dict(after_block=2)), ValueError, "lacks the key 'num_tokens'"),
        (dict(token_learner_tokens=dict(num_tokens=4, tokens=2)), TypeError, 'tokens'),
        (dict(token_learner_tokens=4, vit=dict(VIT, output='vector')), ValueError, "vit has output='vector'. Drop"),
        (
            dict(vit=SWIN, token_learner_tokens=dict(num_tokens=4, after_block=1)),
            ValueError,
            'needs a plain ViT .* and the vit stream is a SwinTransformerV2',
        ),
        (
            dict(vit=PLAIN, token_learner_tokens=dict(num_tokens=4, after_block=3)),
            ValueError,
            r'after_block in \[1, 2\], got 3. The stream has 3 blocks',
        ),
        (dict(img_size=(64, 64, 3)), ValueError, 'neither one number nor'),
        (dict(img_size=0), ValueError, r'expected img_size in \[1, inf\), got 0'),
        (dict(cnn=dict(name='test_resnet')), TypeError, r"cnn needs model_name='...'.*it has name, output"),
        (dict(cnn='test_resnet'), TypeError, r"expected cnn=dict\(model_name='...'\), got cnn='test_resnet'"),
        (dict(cnn=dict(CNN, drop_path=0.1)), TypeError, "test_resnet takes no argument 'drop_path'. Did you mean"),
        (dict(img_size=65), ValueError, 'test_vit cannot take images of 65 x 65'),
    ],
)
def test_what_cannot_be_built(keys, error, message):
    with pytest.raises(error, match=message):
        build(**keys)


def test_with_cp_of_one_stream_overrides_that_of_both():
    backbone = build(with_cp=True, cnn=dict(CNN, with_cp=False))
    assert backbone.vit.model.grad_checkpointing
    assert not backbone.cnn.model.grad_checkpointing


def test_layer_depths_and_mmpretrains_layer_wise_decay():
    model = MODELS.build(
        dict(
            type='HybridClassifier',
            backbone=dict(type='HybridBackbone', cnn=CNN, vit=VIT, img_size=64, use_cbam=True, token_learner_tokens=2),
            neck=dict(type='DHAFusion', fusion_dim=8),
            head=dict(type='LinearHead', num_classes=2),
        )
    )
    (cnn_last, cnn_depths), (vit_last, vit_depths) = (
        model.get_layer_depth(f'backbone.{name}.weight') for name in ('cbam.spatial_gate.conv', 'token_learner.norm')
    )
    assert (cnn_last, vit_last) == (cnn_depths - 1, vit_depths - 1)
    assert model.get_layer_depth('backbone.vit.model.cls_token') == (0, vit_depths)
    assert model.get_layer_depth('backbone.vit.model.blocks.0.attn.qkv.weight') == (1, vit_depths)
    assert model.get_layer_depth('backbone.cnn.model.conv1.0.weight') == (0, cnn_depths)
    assert model.get_layer_depth('head.fc.weight')[0] == max(cnn_depths, vit_depths) - 1
    with pytest.raises(ValueError, match='no parameter'):
        model.get_layer_depth('backbone.vit.model.blocks.99.attn.qkv.weight')
    with pytest.raises(ValueError, match=r"it has no parameter 'backbone.mlp.weight'"):
        model.get_layer_depth('backbone.mlp.weight')
    constructor = LearningRateDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.0, weight_decay=0.0)), dict(layer_decay_rate=0.5)
    )
    groups = {group['param_name']: group['lr'] for group in constructor(model).optimizer.param_groups}
    assert groups['head.fc.weight'] == groups['neck.project.weight'] == 1
    assert groups['backbone.vit.model.cls_token'] == 0.5 ** (vit_depths - 1)
    assert groups['backbone.cbam.spatial_gate.conv.weight'] == 1


def test_half_precision_gives_nearly_the_same():
    backbone = build(use_cbam=True, token_learner_tokens=3).eval()
    with torch.no_grad():
        wanted = backbone(IMAGES)
        with torch.autocast('cpu', torch.bfloat16):
            for feature, reference in zip(backbone(IMAGES), wanted, strict=True):
                torch.testing.assert_close(feature.float(), reference, rtol=0.05, atol=0.1)


def test_modules_are_where_others_look_for_them():
    backbone = build(use_cbam=dict(reduction=8, kernel_size=3, identity_init=False), token_learner_tokens=4)
    assert isinstance(backbone.cbam, CBAM)
    assert backbone.cbam.channel_gate.mlp[0].out_features == 96 // 8
    assert backbone.cbam.spatial_gate.conv.kernel_size == (3, 3)
    assert isinstance(backbone.token_learner, TokenLearner)
    assert backbone.stream_names == ('cnn', 'vit')
    assert build().cbam is None
    assert build().token_learner is None


def work(rank, folder):
    """Two steps of DDP that does not look for unused parameters: it fails at the second if there is one."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    backbone = build(
        cnn=dict(CNN, frozen_stages=1),
        vit=dict(PLAIN, frozen_stages=0),
        use_cbam=True,
        with_cp=True,
        token_learner_tokens=dict(num_tokens=4, after_block=2),
    )
    wrapped = nn.parallel.DistributedDataParallel(backbone)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(rank))
    for _ in range(2):
        backbone.zero_grad()
        sum(feature.square().mean() for feature in wrapped(images)).backward()
    torch.save({n: p.grad for n, p in backbone.named_parameters()}, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_with_frozen_parts(tmp_path):
    run_processes(work, tmp_path)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    frozen = {name for name, grad in first.items() if grad is None}
    assert any(name.startswith('cnn.model.layer1') for name in frozen)
    assert 'vit.model.cls_token' in frozen
    assert len(frozen) < len(first) / 2
    torch.testing.assert_close(
        {n: g for n, g in first.items() if g is not None}, {n: g for n, g in second.items() if g is not None}
    )


@pytest.mark.parametrize('rank', [8, dict(rank=8, cnn=None)])
def test_lora_without_peft_says_what_to_install(monkeypatch, rank):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError) as caught:
        build(cnn=CNN, vit=VIT, lora_rank=rank)
    assert str(caught.value) == (
        'HybridBackbone: expected the package peft for lora_rank=8, and it is not installed. '
        "Type: pip install 'hybridcls[lora]'"
    )
    assert build(cnn=CNN, vit=VIT, lora_rank=0).out_channels


@pytest.mark.parametrize(
    ('keys', 'still_training'),
    [(dict(norm_eval=True), 0), (dict(lora_rank=2), 0), (dict(cnn=dict(model_name='resnet10t', frozen_stages=0)), 11)],
)
def test_what_is_frozen_stays_frozen_as_syncbatchnorm(keys, still_training):
    """The conversion puts new modules in the place of the BatchNorm layers."""
    backbone = build(**{'cnn': dict(model_name='resnet10t'), **keys})
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(backbone).train()
    norms = [module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == 14
    assert sum(module.training for module in norms) == still_training
