"""Phase 1: supervised contrastive pre-training of the reference pair on 8 GPUs, with SAM, GC and Lookahead.

    bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin.py 8
Not trained yet.
"""

_base_ = [
    '../_base_/models/hybrid_convnext_swin.py',
    '../_base_/datasets/imagefolder_two_views.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(use_cbam=True, token_learner_tokens=8),
    head=dict(
        type='SupConHead',
        projection=dict(hid_channels=1024, out_channels=128),
        loss=dict(type='SupConLoss', temperature=0.1),
    ),
)
optim_wrapper = dict(
    stages=dict(
        sam=dict(type='SAM', rho=0.05),
        gc=dict(type='GradientCentralization'),
        lookahead=dict(type='Lookahead', k=5, alpha=0.5),
    )
)
default_hooks = dict(checkpoint=dict(save_best='knn/top1'))
