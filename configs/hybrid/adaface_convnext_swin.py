"""Phase 2: an AdaFace head on the reference pair, 8 GPUs.

    bash tools/dist_train.sh configs/hybrid/adaface_convnext_swin.py 8
Starts from scratch; two_phase_convnext_swin.py loads the weights of phase 1.
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
    head=dict(type='AdaFaceHead', margin=0.4, scale=64.0, h=0.333, t_alpha=0.01),
)
lr = 2e-4
max_epochs = 30
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
