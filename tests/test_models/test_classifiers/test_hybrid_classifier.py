"""The classifier that joins backbone, neck and head."""

import copy

import pytest
import torch
from at_night import at_night
from mmengine.dataset import default_collate
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.models import HybridClassifier
from hybridcls.registry import MODELS

SWIN = dict(model_name='swinv2_base_window12_192', depths=(1, 1, 2, 1), embed_dim=24, num_heads=(1, 2, 4, 8))
HYBRID = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)
CIFAR = dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)
PLAIN = dict(model_name='vit_tiny_patch16_224', depth=2, embed_dim=24, num_heads=2)
NECK = dict(type='DHAFusion', fusion_dim=16)
LINEAR = dict(type='LinearHead', num_classes=3)


def build(**keys):
    torch.manual_seed(0)
    return MODELS.build(dict(dict(type='HybridClassifier', backbone=HYBRID, neck=NECK, head=LINEAR), **keys))


def small(vit):
    """As little code as torch.export and torch.compile can be shown."""
    cnn = dict(model_name='convnextv2_atto', depths=(1, 1, 1, 1), dims=(4, 8, 12, 16))
    return dict(HYBRID, cnn=cnn, vit=vit, use_cbam=True)


def batch(labels=(0, 1), views=1, size=64):
    generator = torch.Generator().manual_seed(0)
    items = []
    for label in labels:
        inputs = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator) for _ in range(views)]
        sample = DataSample() if label is None else DataSample().set_gt_label(label)
        items.append(dict(inputs=inputs if views > 1 else inputs[0], data_samples=sample))
    return default_collate(items)


@pytest.mark.parametrize(
    ('cnn', 'vit', 'channels'),
    [
        (dict(model_name='test_resnet'), dict(model_name='test_vit'), (96, 64)),
        (dict(model_name='test_convnext2'), SWIN, (128, 192)),
        (dict(model_name='test_convnext'), dict(model_name='test_vit3'), (64, 96)),
    ],
)
def test_another_stream_is_a_change_of_one_word(cnn, vit, channels):
    model = build(backbone=dict(HYBRID, cnn=cnn, vit=vit))
    assert model.neck.in_channels == channels
    assert model.head.in_channels == 16
    assert model.data_preprocessor.num_classes == 3
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize(
    'keys',
    [
        dict(neck=dict(type='ConcatFusion', fusion_dim=None)),
        dict(neck=dict(type='SumFusion', fusion_dim=8)),
        dict(backbone=dict(HYBRID, token_learner_tokens=4, use_cbam=True)),
        dict(
            backbone=dict(type='HybridBackbone', vit=dict(model_name='test_vit'), img_size=64), neck=None
        ),  # one stream
        dict(backbone=dict(type='TimmStream', model_name='test_resnet'), neck=None),
        dict(backbone=CIFAR, neck=dict(type='GlobalAveragePooling')),  # mmpretrain's backbone and neck, our head
        dict(backbone=CIFAR),  # ... our neck, from a probe of the channels
        dict(backbone=dict(HYBRID, cnn=CIFAR)),  # a registered backbone as a stream
        dict(head=dict(type='LinearClsHead', num_classes=3)),  # mmpretrain's head
        dict(head=dict(type='mmpretrain.LinearClsHead', num_classes=3)),
        dict(head=dict(type='LinearClsHead', num_classes=3, _scope_='mmpretrain')),
        dict(head=dict(type='mmpretrain.ArcFaceClsHead', num_classes=3)),
        dict(head=dict(type='AdaFaceHead', num_classes=3)),
        dict(head=dict(type='SupConHead')),
    ],
)
def test_parts_of_both_packages_train_and_predict(keys):
    model = build(**keys)
    losses = model.train()(**model.data_preprocessor(batch()), mode='loss')
    losses['loss'].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    predictions = model.eval().val_step(batch())
    assert len(predictions) == 2
    assert torch.isfinite(predictions[0].val_losses['loss'])


def test_built_modules_are_taken_as_they_are():
    parts = build()
    model = HybridClassifier(
        backbone=parts.backbone, neck=parts.neck, head=parts.head, data_preprocessor=parts.data_preprocessor
    )
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(images), parts.eval()(images), rtol=0, atol=0)


def test_phases_share_all_names_but_the_heads():
    first, second = build(head=dict(type='SupConHead')), build(head=dict(type='ArcFaceHead', num_classes=3))
    a, b = ({name: value.shape for name, value in model.state_dict().items()} for model in (first, second))
    assert {name for name in a.keys() ^ b.keys() if not name.startswith('head.')} == set()
    assert any(name.startswith('head.') for name in a.keys() - b.keys())
    shared = [name for name in a if not name.startswith('head.')]
    assert len(shared) > 100
    assert all(a[name] == b[name] for name in shared)
    assert {name.split('.')[0] for name in a} == {'backbone', 'neck', 'head'}


def test_val_step_tells_the_losses_of_its_batch():
    model, data = build().eval(), batch((0, 1, 2))
    predictions = model.val_step(copy.deepcopy(data))
    with torch.no_grad():
        logits = model(model.data_preprocessor(data)['inputs'])
    expected = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2]))
    for prediction, row in zip(predictions, logits, strict=True):
        torch.testing.assert_close(prediction.val_losses['loss'], expected)
        torch.testing.assert_close(prediction.pred_score, row.softmax(0))
        assert not prediction.val_losses['loss'].requires_grad
    unlabelled = model.val_step(batch((None, None)))
    assert 'val_losses' not in unlabelled[0]
    assert unlabelled[0].pred_score.shape == (3,)
    assert [s.pred_label.item() for s in model.test_step(batch((0, 1)))]  # testing needs no losses


@pytest.mark.parametrize('head', [LINEAR, dict(type='LinearClsHead', num_classes=3), dict(type='SupConHead')])
def test_several_views_of_an_image_are_one_prediction(head):
    model, data = build(head=head).eval(), batch((0, 1, 2), views=2)
    predictions = model.val_step(copy.deepcopy(data))
    assert len(predictions) == 3
    with torch.no_grad():
        inputs = model.data_preprocessor(data)['inputs']
        embedding = model.extract_feat(inputs)[-1].reshape(2, 3, -1).mean(0)
        if 'embedding' in predictions[0]:
            torch.testing.assert_close(torch.stack([p.embedding for p in predictions]), embedding)
        if 'pred_score' in predictions[0]:
            scores = model.head((embedding,)).softmax(1)
            torch.testing.assert_close(torch.stack([p.pred_score for p in predictions]), scores)


def test_features_of_each_stage():
    model, images = build().eval(), torch.rand(2, 3, 64, 64)
    assert [tuple(f.shape) for f in model.extract_feat(images, 'backbone')] == [(2, 96, 2, 2), (2, 64)]
    assert [tuple(f.shape) for f in model.extract_feat(images)] == [(2, 16)]
    assert model.extract_feat(images, 'pre_logits').shape == (2, 16)
    with pytest.raises(ValueError, match=r"expected stage to be one of .*, got 'nek'.*Did you mean 'neck'"):
        model.extract_feat(images, 'nek')


def test_without_a_head_it_gives_features():
    model = build(head=None)
    assert model.eval()(torch.rand(1, 3, 64, 64))[0].shape == (1, 16)
    for mode in ('loss', 'predict'):
        with pytest.raises(ValueError, match=f"mode='{mode}' needs a head, and the model has none"):
            model(torch.rand(1, 3, 64, 64), mode=mode)
    assert len(build(neck=None, head=None)(torch.rand(2, 3, 64, 64))) == 2
    with pytest.raises(ValueError, match=r"expected mode to be one of .*, got 'los'"):
        build()(torch.rand(1, 3, 64, 64), mode='los')


def test_trains_under_autocast():
    model, data = build(), batch()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    logs = []
    for _ in range(4):
        with torch.autocast('cpu', torch.bfloat16):
            logs.append(model.train_step(copy.deepcopy(data), wrapper)['loss'].item())
    assert logs[-1] < logs[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_train_cfg_is_the_preprocessors_mixup():
    model = build(train_cfg=dict(augments=dict(type='Mixup', alpha=1.0)))
    data = model.data_preprocessor(batch(), training=True)
    assert data['data_samples'][0].gt_score.shape == (3,)
    assert model(**data, mode='loss')['loss'].isfinite()


def test_a_moving_average_has_its_own_weights():
    model = build(backbone=dict(HYBRID, token_learner_tokens=dict(num_tokens=2, after_block=2))).eval()
    average = ExponentialMovingAverage(model, momentum=0.5)
    images = torch.rand(1, 3, 64, 64)
    before = model(images).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(average.module.eval()(images), before, rtol=0, atol=0)
    average.update_parameters(model)  # the first update is a copy
    torch.testing.assert_close(average.module(images), model(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    'vit', at_night([dict(SWIN, depths=(1, 1), num_heads=(1, 2)), PLAIN], PLAIN), ids=['swin', 'vit']
)
def test_export_with_any_batch_size(vit):
    model = build(backbone=dict(small(vit), token_learner_tokens=3)).eval()
    rows = torch.export.Dim('rows', min=1, max=64)
    program = torch.export.export(model, (torch.rand(2, 3, 64, 64),), dynamic_shapes=({0: rows},))
    images = torch.rand(5, 3, 64, 64)
    torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.nightly
def test_compiled():
    model = build(backbone=dict(small(PLAIN), token_learner_tokens=dict(num_tokens=3, after_block=1))).eval()
    data = model.data_preprocessor(batch())
    compiled = torch.compile(model, backend='eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(**data, mode='loss')['loss'], model(**data, mode='loss')['loss'])


@pytest.mark.parametrize(
    ('keys', 'error', 'message'),
    [
        (dict(neck=None), ValueError, r'has 2 streams and no neck joins them.*DHAFusion'),
        (
            dict(neck=dict(type='GlobalAveragePooling')),
            ValueError,
            '2 streams and GlobalAveragePooling does not join them',
        ),
        (dict(neck=dict(NECK, fusion_dims=8)), TypeError, "neck.*unknown key 'fusion_dims'. Did you mean 'fusion_dim'"),
        (dict(head=dict(LINEAR, num_class=3)), TypeError, "head.*unknown key 'num_class'. Did you mean 'num_classes'"),
        (
            dict(backbone=dict(HYBRID, use_cbm=True)),
            TypeError,
            "backbone.*unknown key 'use_cbm'. Did you mean 'use_cbam'",
        ),
        (
            dict(head=dict(type='LinearHed', num_classes=3)),
            KeyError,
            "LinearHed is not in the .*Did you mean 'LinearHead'",
        ),
        (
            dict(head='LinearHead'),
            TypeError,
            "expected head as a module or a dict .*, got head='LinearHead'",
        ),
        (dict(head=dict(num_classes=3)), TypeError, "expected head as a module or a dict with a 'type'"),
        (dict(bakbone=HYBRID), TypeError, 'bakbone'),
        (dict(data_preprocessor=dict(to_rbg=True)), TypeError, "unknown key 'to_rbg'. Did you mean 'to_rgb'"),
        (dict(backbone=dict(HYBRID, cnn=dict(model_name='resnet_18'))), ValueError, "no model 'resnet_18'.*'resnet18'"),
    ],
)
def test_what_cannot_be_built(keys, error, message):
    with pytest.raises(error, match=message):
        build(**keys)


@MODELS.register_module()
class NeckOfWidths(nn.Module):
    """A neck as a user writes it first: no ``in_channels``, no ``out_channels``."""

    def __init__(self, widths, out):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, out) for width in widths)

    def forward(self, features):
        vectors = [feature.mean((2, 3)) if feature.dim() == 4 else feature for feature in features]
        return sum(layer(vector) for layer, vector in zip(self.layers, vectors, strict=True))


@MODELS.register_module()
class HeadOfLogits(nn.Module):
    """A head that keeps nothing of what it was given."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, features):
        return self.fc(features[-1])

    def loss(self, features, data_samples):
        target = torch.stack([sample.gt_score for sample in data_samples])
        return dict(loss=nn.functional.cross_entropy(self(features), target))


@MODELS.register_module()
class BackboneOfDicts(nn.Module):
    def forward(self, x):
        return dict(features=x)


@pytest.mark.parametrize(('cnn', 'vit'), [(True, True), (True, False), (False, True)])
def test_a_neck_that_does_not_tell_its_channels_is_probed(cnn, vit):
    streams = {name: HYBRID[name] for name, is_on in (('cnn', cnn), ('vit', vit)) if is_on}
    widths = [dict(cnn=96, vit=64)[name] for name in streams]
    model = build(
        backbone=dict(type='HybridBackbone', img_size=64, **streams),
        neck=dict(type='NeckOfWidths', widths=widths, out=5),
    )
    assert model.head.in_channels == 5
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_a_neck_that_cannot_take_the_features():
    with pytest.raises(ValueError, match=r'NeckOfWidths does not join them: .*\(1, 96, 2, 2\), \(1, 64\), it raises'):
        build(neck=dict(type='NeckOfWidths', widths=[96, 60], out=5))
    with pytest.raises(ValueError, match='the neck NeckOfWidths raises RuntimeError'):
        build(backbone=dict(HYBRID, vit=None), neck=dict(type='NeckOfWidths', widths=[9], out=5))


def test_what_a_head_was_given_is_kept_for_it():
    mixup = dict(augments=[dict(type='Mixup', alpha=1.0)])
    model = build(head=dict(type='HeadOfLogits', num_classes=3), train_cfg=mixup)
    assert (model.head.num_classes, model.head.in_channels, model.data_preprocessor.num_classes) == (3, 16, 3)
    assert model(**model.data_preprocessor(batch(), True), mode='loss')['loss'].isfinite()


@pytest.mark.parametrize(
    'head',
    [
        dict(type='LinearClsHead'),
        dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss', use_soft=True)),
        dict(type='ArcFaceClsHead', margins=0.0),
        dict(type='LinearHead'),
    ],
)
def test_validation_losses_of_a_training_with_mixup(head):
    """Scores are one-hot then; the losses are those of the labels."""
    mixup = dict(augments=[dict(type='Mixup', alpha=1.0)])
    model = build(head=dict(head, num_classes=3, in_channels=16), train_cfg=mixup).eval()
    predictions = model.val_step(batch((0, 2)))
    inputs = model.data_preprocessor(batch((0, 2)))['inputs']
    expected = nn.functional.cross_entropy(model(inputs), torch.tensor([0, 2]))
    torch.testing.assert_close(predictions[1].val_losses['loss'], expected.detach(), rtol=1e-4, atol=1e-4)


def test_a_backbone_of_dicts():
    with pytest.raises(TypeError, match=r'expected a tensor or a tuple .* got a dict with the keys features'):
        build(backbone=dict(type='BackboneOfDicts'))


def test_train_cfg_is_never_ignored():
    mixup, cutmix = (dict(augments=[dict(type=name, alpha=1.0)]) for name in ('Mixup', 'CutMix'))
    with pytest.raises(ValueError, match=r'train_cfg and data_preprocessor\.batch_augments name different'):
        build(train_cfg=mixup, data_preprocessor=dict(batch_augments=cutmix))
    with pytest.raises(ValueError, match='train_cfg is for the data preprocessor'):
        build(train_cfg=mixup, data_preprocessor=build().data_preprocessor)


def test_a_feature_map_that_meets_the_head():
    backbone = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), pooled=False)
    model = build(backbone=backbone, neck=None)
    with pytest.raises(ValueError, match=r'LinearHead: expected .*, got \(1, 96, 2, 2\).*need a neck that pools'):
        model(torch.rand(1, 3, 64, 64))


def test_a_label_out_of_range_names_the_number_of_classes():
    with pytest.raises(ValueError, match='has the label 3, and the head has num_classes=3'):
        build().data_preprocessor(batch((0, 3)), training=True)


def test_a_backbone_that_does_not_tell_its_order():
    model = build(backbone=nn.Conv2d(3, 4, 3), neck=dict(type='GlobalAveragePooling'), head=None)
    with pytest.raises(
        ValueError, match=r'Conv2d does not tell in which order its parameters come .*layer_decay_rate=1, or'
    ):
        model.get_layer_depth('backbone.weight')
