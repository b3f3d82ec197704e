"""A stream is left out for the images that are sure without it, and for no others."""

import pytest
import torch
from mmengine.registry import DefaultScope
from trained_checkpoints import CNN, LINEAR

from hybridcls.models.classifiers.stream_skipping import StreamSkipping, check_skippable, skip_streams
from hybridcls.registry import MODELS
from hybridcls.structures import Calibration

PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)


def built(neck='DHAFusion', head=LINEAR, backbone=PAIR, **more):
    torch.manual_seed(0)
    neck = neck and dict(type=neck, fusion_dim=16)
    cfg = dict(type='HybridClassifier', backbone=backbone, neck=neck, head=head) | more
    with DefaultScope.overwrite_default_scope('hybridcls'):
        return MODELS.build(cfg).eval()


MULTI = dict(
    type='MultiHead',
    heads=dict(a=dict(type='ArcFaceHead', num_classes=4), e=dict(type='EvidentialHead', num_classes=4)),
)


@pytest.mark.parametrize(
    ('neck', 'head', 'skipped', 'levers'),
    [
        ('DHAFusion', LINEAR, 'vit', {}),
        ('ConcatFusion', dict(type='EvidentialHead', num_classes=4), 'cnn', dict(use_cbam=True)),
        ('SumFusion', MULTI, 'vit', dict(token_merging_ratio=0.2, token_learner_tokens=4)),
    ],
)
@torch.no_grad()
def test_sure_images_are_answered_by_one_stream(neck, head, skipped, levers):
    model = built(neck, head, PAIR | levers)
    images = torch.rand(6, 3, 64, 64)
    first = 'vit' if skipped == 'cnn' else 'cnn'
    both = model.predict(images)
    vectors = dict(zip(('cnn', 'vit'), model.neck.pool(model.extract_feat(images, 'backbone')), strict=True))
    filling = vectors[skipped].mean(0)
    filled = {first: vectors[first], skipped: filling.expand(6, -1)}
    alone = model.head.predict(model.neck((filled['cnn'], filled['vit'])))
    tops = torch.stack([one.pred_score.max() for one in alone])
    threshold = float(tops.sort().values[3])  # three images are not sure
    seen = {'cnn': [], 'vit': []}
    for name in seen:
        getattr(model.backbone, name).register_forward_pre_hook(
            lambda stream, inputs, name=name: seen[name].append(len(inputs[0]))
        )
    model.skipping = StreamSkipping(model, dict(stream=skipped, filling=[filling.tolist()], threshold=threshold))
    answers = model(images, mode='predict')
    assert seen == {first: [6], skipped: [3]}
    for answer, one, full, top in zip(answers, alone, both, tops.tolist(), strict=True):
        expected, streams = (one, (first,)) if top >= threshold else (full, ('cnn', 'vit'))
        assert answer.streams == streams
        assert answer.num_classes == 4
        torch.testing.assert_close(answer.pred_score, expected.pred_score)
        assert answer.pred_label == expected.pred_label
        if 'heads' in expected:
            torch.testing.assert_close(answer.heads.e.vacuity, expected.heads.e.vacuity)
    model.skipping.threshold = 0.0
    assert model.predict(images)[0].streams == (first,)
    assert seen[skipped] == [3]  # not run at all
    model.skipping.threshold = 1.1
    torch.testing.assert_close(
        torch.stack([one.pred_score for one in model.predict(images)]), torch.stack([one.pred_score for one in both])
    )


def test_models_without_a_stream_to_skip_are_refused():
    with pytest.raises(ValueError, match='expected a model of two streams, got the stream cnn alone'):
        check_skippable(built(None, backbone=CNN))
    model = built()
    model.neck = torch.nn.Sequential(model.neck)
    with pytest.raises(ValueError, match=r'expected a neck that pools .* got Sequential'):
        check_skippable(model)
    with pytest.raises(ValueError, match='expected one draw an image, got MCDropoutClassifier'):
        check_skippable(built(type='MCDropoutClassifier', dropout=0.1))
    model = built()
    with pytest.raises(ValueError, match=r'says which images are sure, got one without\. Type: hybridcls calibrate'):
        skip_streams(model, Calibration('', '', [], dict(kind='none')))
    with pytest.raises(ValueError, match=r'expected fillings of \[64\] channels, got \[3\]'):
        StreamSkipping(model, dict(stream='vit', filling=[[0.0] * 3], threshold=0.5))
    model.skipping = StreamSkipping(model, dict(stream='vit', filling=[[0.0] * 64], threshold=0.5))
    with pytest.raises(ValueError, match='expected one view an image, got 4 of 2 images'):
        model.predict(torch.rand(4, 3, 64, 64), [None, None])
