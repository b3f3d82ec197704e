"""Who takes each key of a config, by its position."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config.takers import takers_of
from hybridcls.engine.config.tree import split

HYBRID = dict(type='HybridBackbone', cnn=dict(model_name='test_convnext'), vit=dict(model_name='test_vit'))


def taker(key, **cfg):
    found = takers_of(Config(cfg)).at(split(key))
    return found.status, found.name


def model(**parts):
    return dict(type='HybridClassifier', backbone=HYBRID, **parts)


@pytest.mark.parametrize(
    ('backbone', 'key', 'expected'),
    [
        (dict(use_cbam=True), 'use_cbam', ('read', 'HybridBackbone')),
        (dict(use_cbam=dict(reduction=8)), 'use_cbam.reduction', ('read', 'CBAM')),
        (dict(token_learner_tokens=dict(num_tokens=8)), 'token_learner_tokens.num_tokens', ('read', 'TokenLearner')),
        (
            dict(token_learner_tokens=dict(after_block=8)),
            'token_learner_tokens.after_block',
            ('read', 'HybridBackbone'),
        ),
        (dict(lora_rank=dict(rank=8)), 'lora_rank.rank', ('read', 'LoRASettings')),
        (dict(init_cfg=dict(type='Pretrained', checkpoint='x')), 'init_cfg.checkpoint', ('read', 'PretrainedInit')),
        (dict(cnn=dict(depths=(1, 1))), 'cnn.depths', ('read', 'ConvNeXt')),
        (dict(cnn=dict(pretrained_cfg_overlay={})), 'cnn.pretrained_cfg_overlay', ('read', 'create_model')),
        (dict(cnn=dict(frozen_stages=1)), 'cnn.frozen_stages', ('read', 'TimmStream')),
        (dict(cnn=dict(nothing=1)), 'cnn.nothing', ('unknown', '**kwargs of TimmStream')),
        (
            dict(vit=dict(model_name='swinv2_base_window12_192_22k', window_size=4)),  # an old name
            'vit.window_size',
            ('read', 'SwinTransformerV2'),
        ),
        (
            dict(vit=dict(model_name='hf-hub:x/y', window_size=4)),
            'vit.window_size',
            ('unknown', '**kwargs of TimmStream'),
        ),
    ],
)
def test_the_backbone(backbone, key, expected):
    merged = Config(dict(HYBRID))
    merged.merge_from_dict(backbone)
    assert taker(f'model.backbone.{key}', model=dict(type='HybridClassifier', backbone=merged.to_dict())) == expected


def test_a_registered_stream():
    backbone = dict(
        HYBRID, cnn=dict(type='ResNet', depth=18, mean=(0.5,) * 3, norm_cfg=dict(type='BN', requires_grad=True))
    )
    cfg = dict(model=dict(type='HybridClassifier', backbone=backbone))
    assert taker('model.backbone.cnn.depth', **cfg) == ('read', 'ResNet')
    assert taker('model.backbone.cnn.mean', **cfg) == ('read', 'RegisteredStream')
    # mmcv's builder of layers takes it; no signature of the layer does.
    assert taker('model.backbone.cnn.norm_cfg.requires_grad', **cfg)[0] == 'unknown'
    backbone['cnn']['dpeth'] = 3
    assert taker('model.backbone.cnn.dpeth', **cfg) == ('unread', "ResNet takes no such key. Did you mean 'depth'?")


@pytest.mark.parametrize(
    ('parts', 'key', 'expected'),
    [
        (
            dict(head=dict(type='SupConHead', projection=dict(out_channels=8))),
            'head.projection.out_channels',
            ('read', 'ProjectionMLP'),
        ),
        (dict(head=dict(type='SupConHead', loss=dict(temperature=1))), 'head.loss.temperature', ('read', 'SupConLoss')),
        (dict(head=dict(type='LinearHead', num_classes=3)), 'head.num_classes', ('read', 'LinearHead')),
        (dict(head=dict(type='NoHead', scale=3)), 'head.scale', ('unknown', "'NoHead': no MODELS has this name")),
        (dict(grad_cache=dict(micro_batch=8)), 'grad_cache.micro_batch', ('read', 'GradientCache')),
        (
            dict(train_cfg=dict(augments=[dict(type='Mixup', alpha=1.0)], probs=[1.0])),
            'train_cfg.augments.0.alpha',
            ('read', 'Mixup'),
        ),
        (dict(train_cfg=dict(augments=[], probs=[1.0])), 'train_cfg.probs', ('read', 'RandomBatchAugment')),
        (
            dict(data_preprocessor=dict(label_check=False)),
            'data_preprocessor.label_check',
            ('read', 'HybridDataPreprocessor'),
        ),
    ],
)
def test_the_other_parts_of_the_model(parts, key, expected):
    assert taker(f'model.{key}', model=model(**parts)) == expected


def test_a_parent_that_takes_it_is_named_too():
    loader = dict(dataset=dict(type='ImageFolder', test_mode=True, data_prefix='val'))
    assert taker('val_dataloader.dataset.test_mode', val_dataloader=loader) == ('read', 'ImageFolder (BaseDataset)')


@pytest.mark.parametrize(
    ('loader', 'key', 'expected'),
    [
        (dict(batch_size=2), 'batch_size', ('read', 'DataLoader')),
        (dict(batch_size=2, batch_sampler=dict(type='PKSampler')), 'batch_size', ('read', 'PKSampler')),
        (dict(num_batch_per_epoch=2), 'num_batch_per_epoch', ('read', 'Runner.build_dataloader')),
        (dict(sampler=dict(type='DefaultSampler', shuffle=True)), 'sampler.shuffle', ('read', 'DefaultSampler')),
        (dict(collate_fn=dict(type='pseudo_collate')), 'collate_fn.type', ('read', 'mmengine.pseudo_collate')),
        (dict(workers=2), 'workers', ('unread', "DataLoader takes no such key. Did you mean 'num_workers'?")),
        (
            dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='ImageFolder', data_root='x'))),
            'dataset.dataset.data_root',
            ('read', 'ImageFolder'),
        ),
        (
            dict(dataset=dict(type='ConcatDataset', datasets=[dict(type='ImageFolder', data_root='x')])),
            'dataset.datasets.0.data_root',
            ('read', 'ImageFolder'),
        ),
        (
            dict(
                dataset=dict(
                    type='Digits',
                    pipeline=[dict(type='RandomApply', prob=1, transforms=[dict(type='ColorJitter', hue=1)])],
                )
            ),
            'dataset.pipeline.0.transforms.0.hue',
            ('read', 'ColorJitter'),
        ),
    ],
)
def test_dataloaders(loader, key, expected):
    assert taker(f'train_dataloader.{key}', train_dataloader=loader) == expected
    # That of a hook is read in the same way.
    hook = dict(type='EmbeddingBankHook', dataloader=loader)
    assert taker(f'custom_hooks.0.dataloader.{key}', custom_hooks=[hook]) == expected


@pytest.mark.parametrize(
    ('wrapper', 'key', 'expected'),
    [
        (dict(optimizer=dict(type='SGD', lr=1)), 'optimizer.lr', ('read', 'SGD')),
        (dict(accumulative_counts=2), 'accumulative_counts', ('read', 'OptimWrapper')),
        (dict(amp='float16'), 'amp', ('unread', 'OptimWrapper takes no such key.')),
        (dict(clip_grad=dict(max_norm=1)), 'clip_grad.max_norm', ('read', 'clip_grad_norm_')),
        (dict(clip_grad=dict(type='value', clip_value=1)), 'clip_grad.clip_value', ('read', 'clip_grad_value_')),
        (
            dict(clip_grad=dict(maxnorm=1)),
            'clip_grad.maxnorm',
            ('unread', "clip_grad_norm_ takes no such key. Did you mean 'max_norm'?"),
        ),
        (dict(type='SAMOptimWrapper', rho=1), 'rho', ('read', 'SAM')),
        (
            dict(type='ComposedOptimWrapper', stages=dict(sam=dict(type='SAM', rho=1), gc=None)),
            'stages.sam.rho',
            ('read', 'SAM'),
        ),
        (
            dict(constructor='HybridOptimWrapperConstructor', paramwise_cfg=dict(lr_mult={})),
            'paramwise_cfg.lr_mult',
            ('inside', 'HybridOptimWrapperConstructor, in paramwise_cfg'),
        ),
        (
            dict(constructor='Mine', generator=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1))),
            'generator.optimizer.lr',
            ('read', 'SGD'),
        ),
    ],
)
def test_optimizer_wrappers(wrapper, key, expected):
    assert taker(f'optim_wrapper.{key}', optim_wrapper=wrapper) == expected


@pytest.mark.parametrize(
    ('key', 'value', 'inner', 'expected'),
    [
        ('train_cfg', dict(by_epoch=True, max_epochs=1), 'max_epochs', ('read', 'EpochBasedTrainLoop')),
        ('train_cfg', dict(by_epoch=False, max_iters=1), 'max_iters', ('read', 'IterBasedTrainLoop')),
        ('train_cfg', dict(by_epoch=False, max_iters=1), 'by_epoch', ('read', 'Runner.build_train_loop')),
        ('val_cfg', dict(fp16=True), 'fp16', ('read', 'ValLoop')),
        ('val_evaluator', [dict(type='ValLoss'), dict(type='KNNAccuracy', k=3)], '1.k', ('read', 'KNNAccuracy')),
        ('val_evaluator', dict(metrics=[dict(type='KNNAccuracy', k=3)]), 'metrics.0.k', ('read', 'KNNAccuracy')),
        ('default_hooks', dict(timer=None), 'timer', ('read', 'Runner.register_default_hooks')),
        ('custom_hooks', [dict(type='EMAHook', priority=3)], '0.priority', ('read', 'Runner.register_hook')),
        ('custom_hooks', [dict(type='EMAHook', begin_epoch=3)], '0.begin_epoch', ('read', 'EMAHook')),
        ('custom_hooks', [dict(type='EMAHook', momentum=3)], '0.momentum', ('read', 'ExponentialMovingAverage')),
        ('custom_hooks', [dict(type='EMAHook', gamma=3)], '0.gamma', ('unknown', '**kwargs of EMAHook')),
        (
            'custom_hooks',
            [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=3)],
            '0.gamma',
            ('read', 'MomentumAnnealingEMA'),
        ),
        (
            'custom_hooks',
            [dict(type='EMAHook', ema_type='NoSuch', gamma=3)],
            '0.gamma',
            ('unknown', '**kwargs of EMAHook'),
        ),
        (
            'custom_hooks',
            [
                dict(
                    type='DistillationHook',
                    teacher=dict(type='HybridClassifier', neck=dict(type='DHAFusion', fusion_dim=3)),
                )
            ],
            '0.teacher.neck.fusion_dim',
            ('read', 'DHAFusion'),
        ),
        (
            'custom_hooks',
            [dict(type='DistillationHook', teacher=dict(model_name='test_vit', depth=3))],
            '0.teacher.depth',
            ('read', 'VisionTransformer'),
        ),
        ('param_scheduler', dict(type='PolyLR', power=2), 'power', ('read', 'PolyLR (PolyParamScheduler)')),
        (
            'param_scheduler',
            dict(g=[dict(type='StepLR', step_size=2)]),
            'g.0.step_size',
            ('read', 'StepLR (StepParamScheduler)'),
        ),
        ('env_cfg', dict(dist_cfg=dict(backend='gloo')), 'dist_cfg.backend', ('read', 'init_dist')),
        ('env_cfg', dict(dist_cfg=dict(timeout=3)), 'dist_cfg.timeout', ('read', 'init_process_group')),
        ('env_cfg', dict(dist_cfg=dict(tmeout=3)), 'dist_cfg.tmeout', ('unknown', '**kwargs of init_dist')),
        ('randomness', dict(diff_rank_seed=True), 'diff_rank_seed', ('read', 'Runner.set_randomness')),
        ('log_processor', dict(window_size=3), 'window_size', ('read', 'LogProcessor')),
        (
            'visualizer',
            dict(vis_backends=[dict(type='LocalVisBackend', save_dir='x')]),
            'vis_backends.0.save_dir',
            ('read', 'LocalVisBackend'),
        ),
        (
            'model_wrapper_cfg',
            dict(bucket_cap_mb=3),
            'bucket_cap_mb',
            ('read', 'MMDistributedDataParallel (DistributedDataParallel)'),
        ),
        ('compile', dict(backend='eager'), 'backend', ('inside', 'Runner.train, in compile')),
        (
            'tta_model',
            dict(type='MixtureTTA', module=dict(type='HybridClassifier', sync_bn=True)),
            'module.sync_bn',
            ('read', 'HybridClassifier'),
        ),
    ],
)
def test_the_other_places(key, value, inner, expected):
    assert taker(f'{key}.{inner}', **{key: value}) == expected


def test_variables_have_no_taker():
    assert takers_of(Config(dict(train_pipeline=[dict(type='LoadImage')]))).at(('train_pipeline', 0, 'type')) is None


def test_a_preprocessor_of_a_model_that_is_not_known_here():
    cfg = dict(model=dict(type='ToyThatNobodyKnows'), data_preprocessor=dict(mean=[1.0]))
    assert taker('data_preprocessor.mean', **cfg)[0] == 'unknown'
