"""Images are normalized once: what each data preprocessor gives, and what each backbone takes."""

import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.models.backbones import HybridBackbone
from hybridcls.models.data_preprocessors.image_range import check_unit_range, normalization_of, range_after
from hybridcls.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
HYBRID = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), img_size=32)
CIFAR = dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)
GAP, LINEAR = dict(type='GlobalAveragePooling'), dict(type='LinearHead', num_classes=3)


def classifier(backbone, **keys):
    return MODELS.build(dict(type='hybridcls.HybridClassifier', backbone=backbone, neck=GAP, head=LINEAR, **keys))


def batch():
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    return default_collate([dict(inputs=image, data_samples=DataSample().set_gt_label(0)) for image in images])


@pytest.mark.parametrize(
    ('cfg', 'expected'),
    [
        (dict(type='HybridDataPreprocessor'), (0.0, 1.0)),
        (dict(type='ClsDataPreprocessor'), (0.0, 255.0)),
        (dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3), (0.0, 1.0)),
        (dict(type='ClsDataPreprocessor', mean=MEAN, std=STD), (-MEAN[0] / STD[0], (255 - MEAN[2]) / STD[2])),
        (dict(type='mmengine.ImgDataPreprocessor', mean=MEAN, std=STD), (-MEAN[0] / STD[0], (255 - MEAN[2]) / STD[2])),
        (dict(type='HybridDataPreprocessor', mean=MEAN, std=STD), (-MEAN[0] / STD[0], (255 - MEAN[2]) / STD[2])),
        (dict(type='HybridDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3), None),
        (dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD), None),
    ],
)
def test_range_after_each_preprocessor(cfg, expected):
    found = range_after(MODELS.build(cfg))
    assert found is None if expected is None else found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('preprocessor', [dict(), dict(mean=MEAN, std=STD, to_rgb=True)])
def test_classifier_refuses_to_normalize_twice_or_not_at_all_when_built(preprocessor):
    with pytest.raises(ValueError, match=r'ClsDataPreprocessor: expected RGB images in \[0, 1\].*type=.Hybrid'):
        classifier(HYBRID, data_preprocessor=dict(type='ClsDataPreprocessor', **preprocessor))
    assert classifier(HYBRID, data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3))
    own = dict(HYBRID, cnn=dict(model_name='test_resnet', mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    assert classifier(own, data_preprocessor=dict(type='ClsDataPreprocessor', **preprocessor))


@pytest.mark.parametrize(
    ('preprocessor', 'says'),
    [
        (None, r'got values from 0 to 255, in \[0, 255\]'),
        (dict(mean=MEAN, std=STD, to_rgb=True), r'got values from -2.\d+ to 2.\d+, that are normalized already'),
        (dict(type='hybridcls.HybridDataPreprocessor'), None),
    ],
)
def test_first_images_of_a_training_in_mmpretrains_classifier(preprocessor, says):
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(HYBRID, type='hybridcls.HybridBackbone'),
            neck=GAP,
            head=dict(type='LinearClsHead', num_classes=3, in_channels=96),
            data_preprocessor=preprocessor,
        )
    )
    model.init_weights()  # as mmengine's Runner does before it trains
    data = model.data_preprocessor(batch(), True)
    if says is None:
        assert model(**data, mode='loss')['loss'].isfinite()
    else:
        with pytest.raises(ValueError, match=f'HybridBackbone: expected RGB images.*{says}'):
            model(**data, mode='loss')


@torch.no_grad()
def test_backbone_by_itself_takes_any_numbers_and_looks_once():
    backbone = HybridBackbone(cnn=dict(model_name='test_resnet'), img_size=32).eval()
    backbone(torch.randn(2, 3, 32, 32))  # no training: a smoke test, an export, a probe
    backbone.init_weights()
    backbone(torch.rand(2, 3, 32, 32))
    backbone(torch.randn(2, 3, 32, 32) * 9)


@torch.no_grad()
def test_bare_backbone_of_mmpretrain_is_normalized_by_imagenets_numbers():
    model = classifier(CIFAR).eval()
    data = model.data_preprocessor(batch())
    mmpretrains = MODELS.build(dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=True))(batch())['inputs']
    feature = model.backbone(mmpretrains)[-1]
    torch.testing.assert_close(model.extract_feat(data['inputs'], 'backbone')[-1], feature, rtol=1e-4, atol=1e-5)
    assert set(model.state_dict()) == {
        *(f'backbone.{name}' for name in model.backbone.state_dict()),
        'head.fc.weight',
        'head.fc.bias',
    }
    written = classifier(CIFAR, data_preprocessor=dict(mean=MEAN, std=STD)).eval()
    assert written.image_mean is None
    written.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        written(written.data_preprocessor(batch())['inputs']), model(data['inputs']), rtol=1e-4, atol=1e-5
    )


def test_which_backbones_are_normalized():
    grey = MODELS.build(dict(type='LeNet5', num_classes=-1))
    assert normalization_of(grey) == ([pytest.approx(0.449)], [pytest.approx(0.226)])
    timm = MODELS.build(dict(type='TIMMBackbone', model_name='test_vit', features_only=False))
    assert normalization_of(timm) == ([0.5] * 3, [0.5] * 3)
    assert normalization_of(nn.Conv2d(3, 4, 1)) is None  # of neither package: RGB in [0, 1] as it is
    assert normalization_of(MODELS.build(HYBRID)) is None


@pytest.mark.parametrize('values', [(-0.4, 1.4), (0.0, 1.0), (float('nan'), float('nan'))])
def test_what_may_be_an_image(values):
    check_unit_range('Test', *values)


@pytest.mark.parametrize('values', [(-0.6, 1.0), (0.0, 1.6), (-float('inf'), 0.0)])
def test_what_is_no_image(values):
    with pytest.raises(ValueError, match=r'Test: expected RGB images in \[0, 1\]'):
        check_unit_range('Test', *values)
