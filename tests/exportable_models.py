"""Models of every kind, small, with random weights, and whether they are exported: the rows of the table of docs."""

from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from trained_checkpoints import CLASSES, LINEAR, config_of

from hybridcls.registry import MODELS
from hybridcls.structures import PREPROCESSING_VERSION

EXPORTED = 'exported'
_CUT = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
_VIT = dict(model_name='test_vit', depth=3)
_PLAIN = dict(embed_dim=48, depth=2, num_heads=3)
CNN = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', output='vector'), img_size=64)
VIT = dict(type='HybridBackbone', vit=_VIT, img_size=64)
BOTH = dict(
    type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=_VIT, img_size=64
)  # fmt: skip
DHA = dict(type='DHAFusion', fusion_dim=16)
POOL = dict(type='GlobalAveragePooling')


class Case(NamedTuple):
    """A model.

    Args:
        model (dict): Config of the classifier.
        result (str): ``'exported'``, or a part of the sentence that refuses it.
        hooks (tuple[dict, ...]): ``custom_hooks`` of its config.
        extra (str): A package that it needs.
    """

    model: dict
    result: str = EXPORTED
    hooks: tuple = ()
    extra: str = ''


def classifier(backbone, head=LINEAR, neck=None, **more):
    """Config of a HybridClassifier."""
    return dict(type='HybridClassifier', backbone=backbone, neck=neck, head=head, **more)


def stream(model_name, kind='cnn', **more):
    """A lone stream of timm."""
    return Case(
        classifier(dict(type='HybridBackbone', img_size=64, **{kind: dict(model_name=model_name, **more)}))
    )  # fmt: skip


def bare(neck=POOL, **backbone):
    """A backbone of mmpretrain's registry."""
    return Case(classifier(backbone, neck=neck))


def headed(**head):
    """Another head on a ViT, of 4 classes."""
    return Case(classifier(VIT, dict(num_classes=4) | head))


def levered(backbone=BOTH, neck=DHA, **more):
    """A lever of the backbone."""
    return Case(classifier(dict(backbone, **more), neck=neck))


MULTI = dict(
    type='MultiHead',
    main='face',
    num_classes=4,
    heads=dict(face=dict(type='ArcFaceHead'), evidence=dict(type='EvidentialHead')),
)
BACKBONES = {
    'ByobNet (`test_byobnet`)': stream('test_byobnet'),
    'CoAtNet (`test_coatnet`)': stream('test_coatnet'),
    'MaxViT (`test_maxvit`)': stream('test_maxvit'),
    'ConvNeXt (`test_convnext`)': stream('test_convnext'),
    'ConvNeXt V2 (`test_convnext2`, `test_convnext3`)': stream('test_convnext2'),
    'EfficientNet (`test_efficientnet`)': stream('test_efficientnet'),
    'EfficientNet, EvoNorm (`test_efficientnet_evos`)': stream('test_efficientnet_evos'),
    'EfficientNet, GroupNorm (`test_efficientnet_gn`)': stream('test_efficientnet_gn'),
    'EfficientNet, LayerNorm (`test_efficientnet_ln`)': stream('test_efficientnet_ln'),
    'EfficientNet-Lite (`tf_efficientnet_lite0`)': stream('tf_efficientnet_lite0'),
    'MobileNetV3 (`tf_mobilenetv3_small_minimal_100`)': stream('tf_mobilenetv3_small_minimal_100'),
    'MambaOut (`test_mambaout`)': stream('test_mambaout', 'vit'),
    'NFNet (`test_nfnet`)': stream('test_nfnet'),
    'ResNet (`test_resnet`)': stream('test_resnet'),
    'ViT (`test_vit`)': stream('test_vit', 'vit'),
    'ViT, no class token (`test_vit2`)': stream('test_vit2', 'vit'),
    'ViT, registers (`test_vit3`)': stream('test_vit3', 'vit'),
    'ViT (`test_vit4`)': stream('test_vit4', 'vit'),
    'ViT, relative positions (`test_vit_relpos`)': stream('test_vit_relpos', 'vit'),
    'DeiT III (`deit3_small_patch16_224`, cut)': stream('deit3_small_patch16_224', 'vit', **_PLAIN),
    'EVA-02 (`eva02_tiny_patch14_224`, cut)': stream('eva02_tiny_patch14_224', 'vit', patch_size=16, **_PLAIN),
    'BEiT (`beitv2_base_patch16_224`, cut)': stream('beitv2_base_patch16_224', 'vit', **_PLAIN),
    'Swin (`swin_tiny_patch4_window7_224`, cut)': stream('swin_tiny_patch4_window7_224', 'vit', window_size=4, **_CUT),
    'Swin V2 (`swinv2_base_window12_192`, cut)': stream('swinv2_base_window12_192', 'vit', **_CUT),
    'two streams (`test_resnet` and `test_vit`)': levered(),
    "mmpretrain's ResNet": bare(type='ResNet', depth=18),
    "mmpretrain's MobileNetV2": bare(type='MobileNetV2'),
    "mmpretrain's ConvNeXt": bare(None, type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[16, 24, 32, 48])),
    "mmpretrain's VisionTransformer": bare(
        None, type='VisionTransformer', img_size=64, patch_size=16,
        arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96),
    ),
    "mmpretrain's SwinTransformer": bare(
        type='SwinTransformer', img_size=64, window_size=2,
        arch=dict(embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]),
    )._replace(result='makes the number of images a constant'),
    "mmpretrain's TIMMBackbone": bare(type='TIMMBackbone', model_name='test_resnet'),
    "a registered backbone as a stream (mmpretrain's ResNet)": levered(
        dict(type='HybridBackbone', cnn=dict(type='ResNet', depth=18), vit=_VIT, img_size=64)
    ),
}  # fmt: skip
HEADS = {
    'LinearHead': headed(type='LinearHead'),
    'LinearHead, `logit_adjustment=dict(post_hoc=True)`': headed(
        type='LinearHead', logit_adjustment=dict(post_hoc=True)
    ),
    'ArcFaceHead': headed(type='ArcFaceHead'),
    'CosFaceHead': headed(type='CosFaceHead'),
    'AdaFaceHead': headed(type='AdaFaceHead'),
    'MarginHead, `num_subcenters=3`': headed(type='MarginHead', num_subcenters=3),
    'ArcFaceHead, `shard_classes=True`': headed(type='ArcFaceHead', shard_classes=True),
    'EvidentialHead': headed(type='EvidentialHead'),
    'MultiLabelHead': headed(type='MultiLabelHead', thresholds=0.3),
    'MultiHead': Case(classifier(VIT, MULTI)),
    'SupConHead': Case(classifier(VIT, dict(type='SupConHead'))),
    "mmpretrain's LinearClsHead": headed(type='LinearClsHead', in_channels=64),
    "mmpretrain's MultiLabelLinearClsHead": headed(type='MultiLabelLinearClsHead', in_channels=64),
    "mmpretrain's ArcFaceClsHead": headed(type='ArcFaceClsHead', in_channels=64),
}
LEVERS = {
    'DHAFusion': levered(),
    'ConcatFusion': levered(neck=dict(type='ConcatFusion', fusion_dim=16)),
    'SumFusion': levered(neck=dict(type='SumFusion', fusion_dim=16)),
    'CBAM': levered(use_cbam=True),
    'TokenLearner v1.1': levered(token_learner_tokens=4),
    'TokenLearner v1': levered(token_learner_tokens=dict(num_tokens=4, form='v1')),
    'TokenLearner after a block': levered(token_learner_tokens=dict(num_tokens=4, after_block=1)),
    'token merging, kept': levered(token_merging_ratio=0.2),
    'token merging by a TokenMergingHook, kept': Case(
        levered().model, hooks=(dict(type='TokenMergingHook', token_merging_ratio=dict(r=2), when='test'),)
    ),
    'LoRA, merged': levered(lora_rank=2)._replace(extra='peft'),
    'DoRA, merged': levered(lora_rank=dict(rank=2, use_dora=True))._replace(extra='peft'),
    'EnsembleClassifier': Case(
        dict(type='EnsembleClassifier', members=[{}, {}], backbone=VIT, head=dict(type='EvidentialHead', num_classes=4))
    ),
    'EnsembleClassifier of MultiLabelHead': Case(
        dict(type='EnsembleClassifier', members=[{}, {}], backbone=VIT, head=dict(type='MultiLabelHead', num_classes=4))
    ),
    'MCDropoutClassifier': Case(
        dict(classifier(VIT), type='MCDropoutClassifier', dropout=0.2), 'predicts 20 times with random dropout'
    ),
    "mmpretrain's ImageClassifier": Case(
        dict(
            type='ImageClassifier', backbone=dict(type='ResNet', depth=18), neck=POOL,
            head=dict(type='LinearClsHead', num_classes=4, in_channels=512),
            data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
        )
    ),
    '`data_preprocessor` with mean and std': Case(
        classifier(
            dict(type='ResNet', depth=18), neck=POOL,
            data_preprocessor=dict(type='HybridDataPreprocessor', mean=[120.0, 110.0, 100.0], std=[60.0, 58.0, 56.0]),
        )
    ),
    '`data_preprocessor` with `to_rgb=False`': Case(
        classifier(CNN, data_preprocessor=dict(type='HybridDataPreprocessor', to_rgb=False))
    ),
}  # fmt: skip
SECTIONS = {'Backbones': BACKBONES, 'Heads': HEADS, 'Necks, levers and classifiers': LEVERS}
CASES = {name: case for cases in SECTIONS.values() for name, case in cases.items()}


def write_case(folder, case, **more):
    """Write a checkpoint of a case, with weights of which none is 0 or 1; return its path."""
    cfg = config_of(None, None, **more)
    cfg['model'], cfg['custom_hooks'] = case.model, list(case.hooks)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        model = MODELS.build(case.model)
    head = getattr(model, 'head', None)
    if getattr(head, 'needs_class_counts', False):
        head.set_class_counts([8, 4, 2, 1], 15)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn_like(value) * (0.3 * value.std() if value.dim() > 1 and value.numel() > 1 else 0.05)
            value.copy_(value + (noise.abs() if 'var' in name else noise))
    meta = dict(cfg=Config(cfg).pretty_text, dataset_meta=dict(classes=list(CLASSES)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'epoch_1.pth'
    torch.save(dict(meta=dict(meta, preprocessing_version=PREPROCESSING_VERSION), state_dict=model.state_dict()), path)
    return str(path)
