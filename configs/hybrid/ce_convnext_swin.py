"""Baseline: cross entropy with mixup and cutmix on the reference pair, 8 GPUs.

    bash tools/dist_train.sh configs/hybrid/ce_convnext_swin.py 8
Not trained yet.
"""

_base_ = [
    '../_base_/models/hybrid_convnext_swin.py',
    '../_base_/datasets/imagefolder.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(use_cbam=True, token_learner_tokens=8),
    head=dict(type='LinearHead', label_smoothing=0.1),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
