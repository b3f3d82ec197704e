"""A teacher through the Runner: what it adds, what it leaves alone, and what cannot teach."""

import json
import math
import re
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from processes import run_tool
from torch import nn

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training
from hybridcls.engine.distillation import DistillationHook
from hybridcls.engine.distillation.teacher_model import build_teacher
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.functional import cosine_feature_loss, distance_relation_loss, kd_kl_loss
from hybridcls.models.classifiers import Distillation, Teacher
from hybridcls.registry import MODELS

CONFIG = """
default_scope = 'hybridcls'
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_convnext')),
             neck=dict(type='ConcatFusion', fusion_dim=8), head=dict(type='LinearHead'))
pipeline = [dict(type='ResizeToSize', img_size=32), dict(type='RandomAffine', degrees=9), dict(type='PackInputs')]
train_dataloader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='Digits', indices=48, pipeline=pipeline))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
log_level = 'ERROR'
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
TEACHER = CONFIG + "\nmodel['backbone']['cnn'] = dict(model_name='test_resnet')\nmodel['neck']['fusion_dim'] = 12\n"


def build(cfg):
    with DefaultScope.overwrite_default_scope('hybridcls'):
        return MODELS.build(cfg)


@pytest.fixture
def configs(tmp_path):
    (tmp_path / 'student.py').write_text(CONFIG)
    (tmp_path / 'teacher.py').write_text(TEACHER)
    torch.manual_seed(5)
    teacher = build_teacher(str(tmp_path / 'teacher.py'), with_weights=False)
    teacher.init_weights()
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    return tmp_path


def hook(configs, **more):
    return dict(
        type='DistillationHook',
        teacher=str(configs / 'teacher.py'),
        teacher_checkpoint=str(configs / 'teacher.pth'),
        **more,
    )


def runner_of(configs, name, *hooks, go_on=None, **options):
    cfg = load_config(configs / 'student.py', dict(custom_hooks=list(hooks), **options))
    return build_runner(prepare_training(cfg, TrainOptions(resume=go_on), str(configs / name)))


def train(configs, name, *hooks, **options):
    with isolated_globals():
        runner = runner_of(configs, name, *hooks, **options)
        runner.train()
    return runner


def images_and_samples():
    torch.manual_seed(3)
    return torch.rand(4, 3, 32, 32), [DataSample().set_gt_label(label) for label in (1, 4, 0, 4)]


@pytest.mark.parametrize('head', [dict(type='LinearHead'), dict(type='ArcFaceHead', scale=16.0)])
def test_the_terms(head):
    """(1 - w) task + w T^2 KL, with the teacher's logits, and the two other terms beside them."""
    student = build(
        dict(
            type='HybridClassifier',
            backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_convnext'), img_size=32),
            neck=dict(type='ConcatFusion', fusion_dim=8),
            head=dict(head, num_classes=10),
            distill_projection=12,
        )
    ).eval()
    teacher = build(
        dict(
            type='HybridClassifier',
            backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), img_size=32),
            neck=dict(type='ConcatFusion', fusion_dim=12),
            head=dict(head, num_classes=10),
        )
    ).eval()
    images, samples = images_and_samples()
    alone = student(images, samples, mode='loss')
    student.distillation = Distillation(Teacher(teacher), 0.25, 3.0, feature_weight=0.5, relation_weight=2.0)
    losses = student(images, samples, mode='loss')
    own, theirs = student.extract_feat(images)[-1], teacher.extract_feat(images)[-1]
    torch.testing.assert_close(losses['loss'], 0.75 * alone['loss'])
    # Of margin heads: cosines times scale, which is what they give for a prediction, without the margin.
    torch.testing.assert_close(losses['loss_distill'], 0.25 * kd_kl_loss(student(images), teacher(images), 3.0))
    torch.testing.assert_close(
        losses['loss_feature'], 0.5 * cosine_feature_loss(student.distill_projection(own), theirs)
    )
    torch.testing.assert_close(losses['loss_relation'], 2.0 * distance_relation_loss(own, theirs))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(param.grad is None for param in teacher.parameters())
    assert all(param.grad is not None for param in student.parameters())


def test_the_student_knows_nothing_of_its_teacher(configs):
    """Same checkpoint names, optimizer and random numbers as alone; with w = 0 for the logits, even the same bits."""
    alone = train(configs, 'alone')
    tiny = train(configs, 'tiny', hook(configs, distill_weight=0.0, relation_weight=1e-30))
    for (name, value), other in zip(alone.model.state_dict().items(), tiny.model.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, rtol=0, atol=1e-7, msg=name)
    taught = train(configs, 'taught', hook(configs))
    assert taught.model.state_dict().keys() == alone.model.state_dict().keys()
    groups = [len(group['params']) for group in taught.optim_wrapper.param_groups]
    assert groups == [len(group['params']) for group in alone.optim_wrapper.param_groups]
    assert taught.model.distillation is None
    logged = taught.message_hub.log_scalars
    assert 'train/loss_distill' in logged
    checkpoint = torch.load(configs / 'taught' / 'epoch_2.pth', weights_only=False)
    assert not [key for key in checkpoint['state_dict'] if 'distill' in key or 'teacher' in key]


def test_feature_matching_learns_a_projection_that_is_sized_by_the_teacher(configs):
    runner = train(configs, 'w', hook(configs, distill_weight=0.2, feature_weight=1.0))
    assert runner.model.distill_projection.weight.shape == (12, 8)
    fresh = runner_of(configs, 'w2', hook(configs, distill_weight=0.2, feature_weight=1.0))
    assert not torch.equal(runner.model.distill_projection.weight, fresh.model.distill_projection.weight)


TESTING = """
test_dataloader = val_dataloader = dict(
    batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', indices=16, pipeline=pipeline[::2]))
test_evaluator = val_evaluator = dict(type='Accuracy')
test_cfg = val_cfg = dict()
"""


@pytest.mark.parametrize('weights', [dict(), dict(feature_weight=1.0)])
def test_a_student_is_tested_without_any_file_of_its_teacher(configs, weights):
    (configs / 'student.py').write_text(CONFIG + TESTING)
    taught = train(configs, 'w', hook(configs, **weights))
    for file in configs.glob('teacher.*'):
        file.unlink()
    cfg = load_config(configs / 'student.py', dict(custom_hooks=[hook(configs, **weights)]))
    with isolated_globals():
        runner = build_runner(
            prepare_testing(cfg, str(configs / 'w' / 'epoch_2.pth'), TrainOptions(), str(configs / 'w'))
        )
        assert 0 <= runner.test()['accuracy/top1'] <= 100
    state = taught.model.state_dict()
    for name, value in runner.model.state_dict().items():  # without the projection, which only the training needed
        assert torch.equal(value, state.pop(name)), name
    assert set(state) <= {'distill_projection.weight', 'distill_projection.bias'}


@pytest.mark.slow
def test_a_student_needs_no_word_of_its_teacher_in_its_config(configs):
    """tools/test.py and mmpretrain's inferencer, from a config without hook: all weights are read, nothing is said."""
    (configs / 'student.py').write_text(CONFIG + TESTING)
    taught = train(configs, 'w', hook(configs, feature_weight=1.0))
    checkpoint = str(configs / 'w' / 'epoch_2.pth')
    assert 'distill_projection.weight' in torch.load(checkpoint, weights_only=False)['state_dict']
    for file in configs.glob('teacher.*'):
        file.unlink()
    said = run_tool(
        'test.py',
        'student.py',
        checkpoint,
        '--out',
        'out.json',
        '--out-item',
        'metrics',
        '--cfg-options',
        'log_level=WARNING',
        folder=configs,
    )
    expected = taught.message_hub.get_scalar('val/accuracy/top1').current()
    assert json.loads((configs / 'out.json').read_text())['accuracy/top1'] == pytest.approx(expected)
    assert not re.search('unexpected key|missing key|do not match|distill_projection', said)

    from mmpretrain import ImageClassificationInferencer

    cfg = load_config(configs / 'student.py')
    cfg.model.type = 'hybridcls.HybridClassifier'  # the inferencer looks in mmpretrain's registries
    for transform in cfg.test_dataloader.dataset.pipeline:
        transform.type = f'hybridcls.{transform.type}'
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with mock.patch('mmengine.runner.checkpoint.print_log') as log:
        inferencer = ImageClassificationInferencer(cfg, checkpoint, device='cpu')
    assert not [call for call in log.mock_calls if 'key' in call.args[0]]
    scores = torch.from_numpy(inferencer(image)[0]['pred_scores'])
    inputs = taught.model.data_preprocessor(dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)]))['inputs']
    torch.testing.assert_close(scores, taught.model.eval()(inputs).softmax(1)[0])

    state = torch.load(checkpoint, weights_only=False)
    state['state_dict']['other.weight'] = torch.ones(1)
    torch.save(state, checkpoint)
    with mock.patch('mmengine.runner.checkpoint.print_log') as log:
        ImageClassificationInferencer(cfg, checkpoint, device='cpu')
    assert 'unexpected key in source state_dict: other.weight' in log.call_args.args[0]


def test_resumed_in_the_middle_it_ends_in_the_same_bits(configs, toy_plugin):
    teaching = hook(
        configs,
        distill_weight=dict(start=0.9, end=0.1),
        temperature=dict(start=4, end=1, curve='cosine'),
        feature_weight=1.0,
    )
    stages = dict(optim_wrapper=dict(stages=dict(sam=dict(type='SAM'), lookahead=dict(type='Lookahead', k=2))))
    straight = train(configs, 'straight', teaching, **stages)
    with pytest.raises(toy_plugin.Stopped):
        train(configs, 'w', teaching, dict(type='StopHook', epoch=1), **stages)
    resumed = train(configs, 'w', teaching, go_on='auto', **stages)
    for (name, value), other in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


def test_values_follow_the_iteration():
    hook = DistillationHook(
        nn.Identity(), distill_weight=dict(start=0.5, end=0.1), temperature=dict(start=4, end=2, curve='cosine')
    )
    assert hook._values(0, 5) == (0.5, 4.0)
    weight, temperature = hook._values(1, 5)
    assert weight == pytest.approx(0.4)
    assert temperature == pytest.approx(4 - 2 * (1 - math.cos(math.pi / 4)) / 2)
    assert hook._values(4, 5) == pytest.approx((0.1, 2.0))


def test_the_teacher_runs_once_a_batch_also_under_sam(configs):
    calls = []
    ours = build_teacher(str(configs / 'teacher.py'), str(configs / 'teacher.pth'))
    ours.backbone.register_forward_hook(lambda *_: calls.append(torch.is_inference_mode_enabled()))
    with isolated_globals():
        runner = runner_of(configs, 'w', optim_wrapper=dict(stages=dict(sam=dict(type='SAM'))))
        runner.register_hook(DistillationHook(ours))
        runner.train()
    assert len(calls) == runner.iter == 6
    assert all(calls)
    assert not ours.training


def test_an_averaged_copy_shares_the_teacher(configs):
    runner = train(configs, 'w', hook(configs), dict(type='EMAHook', momentum=0.1))
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model
    assert not [name for name in averaged.state_dict() if 'teacher' in name or 'distill' in name]


@pytest.mark.parametrize('wide', [True, False])
def test_each_sees_its_own_normalisation_and_size(wide):
    """mmpretrain's way of preprocessing, timm's and ours, from the same image in [0, 1]."""
    import timm

    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    theirs = build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(3,)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=512),
            data_preprocessor=dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0], to_rgb=wide),
        )
    ).eval()
    pixels = (images * 255).flip(1)  # what mmcv reads: blue first
    prepared = theirs.data_preprocessor(dict(inputs=pixels))['inputs']
    logits, embedding = Teacher(theirs)(images)
    torch.testing.assert_close(logits, theirs(prepared))
    torch.testing.assert_close(embedding, theirs.extract_feat(prepared)[-1])

    model = timm.create_model('test_vit', num_classes=3, img_size=48, dynamic_img_size=False).eval()
    teacher = Teacher(model)
    resized = torch.nn.functional.interpolate(images, (48, 48), mode='bicubic', antialias=True).clamp(0, 1)
    cfg = model.pretrained_cfg
    normed = (resized - torch.tensor(cfg['mean'])[:, None, None]) / torch.tensor(cfg['std'])[:, None, None]
    torch.testing.assert_close(teacher(images)[0], model(normed))
    assert teacher.num_classes == 3
    assert teacher.embedding_width(32, 32) == model.num_features


def test_margin_heads_of_mmpretrain_teach_with_their_scale():
    theirs = build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='LeNet5', num_classes=-1),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='ArcFaceClsHead', num_classes=3, in_channels=120, scale=30.0),
            data_preprocessor=dict(mean=[0.0], std=[255.0], to_rgb=True),
        )
    ).eval()
    images = torch.rand(2, 1, 32, 32)
    logits, embedding = Teacher(theirs)(images)
    cosines = (
        torch.nn.functional.normalize(embedding) @ torch.nn.functional.normalize(theirs.head.norm_product.weight).t()
    )
    torch.testing.assert_close(logits, 30.0 * cosines)


def test_timm_models_by_name_and_half_precision(configs):
    taught = train(
        configs,
        'w',
        dict(
            type='DistillationHook',
            teacher=dict(model_name='test_vit', img_size=64),
            teacher_checkpoint=timm_weights(configs),
        ),
        **{'optim_wrapper.amp': 'bfloat16'},
    )
    assert taught.message_hub.get_scalar('train/loss_distill').current() > 0


def timm_weights(folder):
    import timm

    torch.save(timm.create_model('test_vit', num_classes=10, img_size=64).state_dict(), folder / 'vit.pth')
    return str(folder / 'vit.pth')


def test_mixed_images_and_several_views(configs):
    (configs / 'student.py').write_text(CONFIG + "\nmodel['train_cfg'] = dict(augments=dict(type='Mixup', alpha=1.))\n")
    assert train(configs, 'mixed', hook(configs)).iter == 6
    (configs / 'student.py').write_text(
        CONFIG
        + """
views = dict(type='MultiView', num_views=2, transforms=[pipeline[:-1]])
train_dataloader['dataset']['pipeline'] = [views, pipeline[-1]]
model['head'] = dict(type='SupConHead', projection=dict(out_channels=4))
"""
    )
    runner = train(configs, 'views', hook(configs, distill_weight=0.0, feature_weight=1.0, relation_weight=1.0))
    assert {'train/loss_feature', 'train/loss_relation'} <= set(runner.message_hub.log_scalars)
    assert 'train/loss_distill' not in runner.message_hub.log_scalars


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (dict(teacher_checkpoint=None), 'the teacher has no weights'),
        (dict(teacher_checkpoint='none.pth'), "checkpoint 'none.pth' does not exist"),
        (dict(teacher='none.py'), "the config 'none.py' does not exist"),
        (dict(teacher=dict(model_name='test_vitt')), "timm has no model 'test_vitt'. Did you mean 'test_vit'"),
        (dict(teacher=dict(model_name='test_vit')), 'does not fit this teacher'),
        (dict(teacher='test_vit'), r"got teacher='test_vit', which is a timm model. Write teacher=dict\(model_name="),
        (dict(teacher=dict(model_name='test_vit', checkpoint_path='x.pth')), 'expected one file of weights, got'),
        (dict(teacher=3), 'is neither the path of a config'),
        (dict(distill_weight=1.5), 'expected distill_weight in .*, got 1.5'),
        (dict(temperature=0), 'expected temperature in .*, got 0'),
        (dict(distill_weight=0), 'nothing is distilled'),
        (dict(distill_weight=dict(start=1)), "lacks the key 'end'"),
        (dict(distill_weight=dict(start=1, end=0, crve='linear')), "unknown key 'crve'"),
    ],
)
def test_what_cannot_teach(configs, change, sentence):
    with isolated_globals(), pytest.raises((ValueError, TypeError, FileNotFoundError), match=sentence):
        runner_of(configs, 'w', dict(hook(configs), **change)).train()


def test_a_timm_teacher_names_its_own_weights(configs):
    weights = timm_weights(configs)
    teacher = build_teacher(dict(model_name='test_vit', checkpoint_path=weights, img_size=64), None, 10)
    expected = torch.load(weights)
    torch.testing.assert_close(teacher.state_dict(), expected, rtol=0, atol=0)


def test_a_teacher_of_other_classes_and_a_student_without_logits(configs):
    with isolated_globals(), pytest.raises(ValueError, match='the teacher knows 10 classes and the student 7'):
        runner_of(configs, 'w', hook(configs), num_classes=7).train()
    (configs / 'student.py').write_text(CONFIG + "\nmodel['head'] = dict(type='SupConHead')\n")
    with isolated_globals(), pytest.raises(ValueError, match=r'SupConHead, gives no logits\. Set distill_weight=0'):
        runner_of(configs, 'w', hook(configs)).train()
    for kind in ('MultiLabelHead', 'MultiLabelLinearClsHead'):
        (configs / 'student.py').write_text(CONFIG + f"\nmodel['head'] = dict(type='{kind}', num_classes=10)\n")
        with isolated_globals(), pytest.raises(ValueError, match=f'got {kind}, whose logits are for several'):
            runner_of(configs, 'w', hook(configs)).train()


def test_a_student_of_another_class(configs):
    lenet = dict(_delete_=True, type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10))
    with isolated_globals(), pytest.raises(TypeError, match=r'the student is a ImageClassifier\. It must be a Hybrid'):
        runner_of(configs, 'w', hook(configs), model=lenet).train()


def test_a_teacher_of_the_same_classes_in_another_order(configs):
    checkpoint = torch.load(configs / 'teacher.pth')
    digits = [str(digit) for digit in range(10)]
    for classes in (digits, [f'digit {digit}' for digit in range(10)]):  # other names cannot be compared
        torch.save({**checkpoint, 'meta': dict(dataset_meta=dict(classes=classes))}, configs / 'teacher.pth')
        with isolated_globals():
            runner_of(configs, 'w', hook(configs))  # it builds
    torch.save({**checkpoint, 'meta': dict(dataset_meta=dict(classes=digits[::-1]))}, configs / 'teacher.pth')
    with pytest.raises(
        ValueError, match=r"the numbers of the training data, got \('9', '8', .*'9' has another number|'0'"
    ):
        train(configs, 'w', hook(configs))
    train(configs, 'w', hook(configs, distill_weight=0, relation_weight=1.0))  # without logits numbers do not matter
