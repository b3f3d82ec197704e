"""One timm model as the whole backbone: without a neck a head gets timm's own vector."""

import pytest
import timm
import torch

from hybridcls.models.classifiers import HybridClassifier

HAS_MAXVIT = 'test_maxvit' in timm.list_models('test_*')  # timm 1.0.22 has none
CUT = dict(
    swin=dict(
        model_name='swin_tiny_patch4_window7_224',
        window_size=4,
        embed_dim=24,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
    ),
    swinv2=dict(
        model_name='swinv2_tiny_window8_256', window_size=4, embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)
    ),
    deit3=dict(model_name='deit3_small_patch16_224', embed_dim=48, depth=2, num_heads=3),
    eva=dict(model_name='eva02_tiny_patch14_224', patch_size=16, embed_dim=48, depth=2, num_heads=3),
    coatnet=dict(model_name='coatnet_pico_rw_224', depths=(1, 1, 1, 1), embed_dim=(16, 32, 32, 64)),
)
FAMILIES = {
    'resnet': ('cnn', dict(model_name='test_resnet')),
    'efficientnet': ('cnn', dict(model_name='test_efficientnet')),
    'convnext': ('cnn', dict(model_name='test_convnext')),
    'convnextv2': ('cnn', dict(model_name='test_convnext2')),
    'mobilenetv3': ('cnn', dict(model_name='tf_mobilenetv3_small_minimal_100')),
    'lite0': ('cnn', dict(model_name='tf_efficientnet_lite0')),
    **({'maxvit': ('cnn', dict(model_name='test_maxvit'))} if HAS_MAXVIT else {}),
    'coatnet': ('cnn', CUT['coatnet']),
    'vit': ('vit', dict(model_name='test_vit')),
    'deit3': ('vit', CUT['deit3']),
    'eva': ('vit', CUT['eva']),
    'swin': ('vit', CUT['swin']),
    'swinv2': ('vit', CUT['swinv2']),
    'mambaout': ('vit', dict(model_name='test_mambaout')),
}


def built(stream, cfg, head=True, **options):
    backbone = dict(type='HybridBackbone', img_size=64, **options)
    backbone[stream] = cfg
    return HybridClassifier(backbone, head=dict(type='LinearHead', num_classes=3) if head else None)


def timms(**cfg):
    """timm's own model without a classifier, for images of 64 x 64."""
    try:
        return timm.create_model(**cfg, num_classes=0, img_size=64)
    except TypeError:  # takes any size
        return timm.create_model(**cfg, num_classes=0)


def randomize(model):
    """Weights of which none is 0 or 1: fresh norms and layer scales would hide half of a model."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and 'relative' not in name:
            value.copy_(torch.rand_like(value) * 0.2 + (0.5 if name.endswith('running_var') else 0.0))


@pytest.mark.parametrize('family', FAMILIES)
def test_the_head_gets_timms_own_vector(family):
    stream, cfg = FAMILIES[family]
    model = built(stream, cfg).eval()
    theirs = timms(**cfg)
    randomize(theirs)
    getattr(model.backbone, stream).model.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(theirs.pretrained_cfg[key])[:, None, None] for key in ('mean', 'std'))
    with torch.no_grad():
        vector = theirs.eval()((images - mean) / std)
        torch.testing.assert_close(model.extract_feat(images)[-1], vector, rtol=0, atol=0)
        torch.testing.assert_close(model(images), model.head.fc(vector), rtol=0, atol=0)
    assert model.head.in_channels == vector.shape[1]


@pytest.mark.parametrize('family', ['resnet', 'efficientnet', 'convnext', 'mobilenetv3', *['maxvit'] * HAS_MAXVIT])
def test_cbam_sits_on_the_last_map_before_timms_own_pooling(family):
    """It starts as the identity; then its gates reach the vector through timm's head."""
    _, cfg = FAMILIES[family]
    plain, model = built('cnn', cfg, head=True).eval(), built('cnn', cfg, use_cbam=True).eval()
    randomize(plain.backbone)
    model.backbone.cnn.load_state_dict(plain.backbone.cnn.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        vector = plain.backbone(images)[0]
        torch.testing.assert_close(model.backbone(images)[0], vector, rtol=0, atol=0)
        timms = model.backbone.cnn.model
        randomize(model.backbone.cbam)
        gated = model.backbone.cbam(timms.forward_features(model.backbone.cnn.normalized(images)))
        torch.testing.assert_close(model.backbone(images)[0], timms.forward_head(gated), rtol=0, atol=0)
        assert not torch.equal(model.backbone(images)[0], vector)


def test_cbam_of_a_channels_last_map_sees_channels():
    swin = built('cnn', CUT['swin'], use_cbam=True)
    assert swin.backbone.cnn.map_channels() == 192
    assert swin(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_cbam_without_a_map_is_a_sentence():
    with pytest.raises(ValueError, match=r"test_vit pools no map, so CBAM .* or set output='map'"):
        built('cnn', dict(model_name='test_vit'), use_cbam=True)


def test_summaries_of_a_token_learner_are_averaged():
    model = built('vit', dict(model_name='test_vit'), token_learner_tokens=3).eval()
    images = torch.rand(2, 3, 64, 64)
    tokens = model.backbone.token_learner(model.backbone.vit(images))
    assert tokens.shape == (2, 3, 64)
    torch.testing.assert_close(model.extract_feat(images)[-1], tokens.mean(1))


def test_a_written_output_and_pooled_stay():
    as_map = built('cnn', dict(model_name='test_convnext', output='map')).eval()
    feature = as_map.backbone.cnn(torch.ones(1, 3, 64, 64))
    assert feature.dim() == 4
    torch.testing.assert_close(as_map.extract_feat(torch.ones(1, 3, 64, 64))[-1], feature.mean((2, 3)))
    assert not built('cnn', dict(model_name='test_resnet'), head=False).backbone.pooled
    neck = HybridClassifier(
        dict(type='HybridBackbone', cnn=dict(model_name='test_resnet')), dict(type='GlobalAveragePooling')
    )
    assert neck.extract_feat(torch.ones(1, 3, 64, 64), stage='backbone')[0].dim() == 4


LEVERS = {
    'cnn': dict(use_cbam=True, lora_rank=2, with_cp=True),
    'vit': dict(
        token_learner_tokens=dict(num_tokens=2, after_block=4), token_merging_ratio=0.2, lora_rank=2, with_cp=True
    ),
}


@pytest.mark.parametrize('stream', LEVERS)
def test_the_levers_work_on_it_together(stream):
    """Each trainable weight gets a gradient, and each parameter has a depth."""
    name = dict(cnn='test_resnet', vit='test_vit')[stream]
    options = dict(LEVERS[stream])
    try:
        import peft  # noqa: F401
    except ImportError:
        del options['lora_rank']
    model = built(stream, dict(model_name=name), **options)
    assert model.head.in_channels == timms(model_name=name).num_features
    model(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert [key for key, param in model.named_parameters() if param.requires_grad and param.grad is None] == []
    depths = [model.get_layer_depth(key) for key, _ in model.named_parameters()]
    assert min(depths)[0] == 0
    assert model.get_layer_depth('head.fc.weight') == max(depths)
