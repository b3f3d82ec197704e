"""One timm model as the whole backbone: without a neck a head gets timm's own vector."""

import pytest
import timm
import torch

from hybridcls.models.classifiers import HybridClassifier

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
    'maxvit': ('cnn', dict(model_name='test_maxvit')),
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
