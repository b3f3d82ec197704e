"""Phase 1 on the digits: supervised contrastive learning of two views, evaluated by nearest neighbours.

python tools/train.py configs/digits/supcon_hybrid.py
"""

_base_ = [
    '../_base_/models/hybrid_digits.py',
    '../_base_/datasets/digits_two_views.py',
    '../_base_/schedules/adamw_cosine_digits.py',
    '../_base_/default_runtime.py',
]
model = dict(
    head=dict(type='SupConHead', projection=dict(out_channels=64), loss=dict(type='SupConLoss', temperature=0.1))
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best='knn/top1'))
