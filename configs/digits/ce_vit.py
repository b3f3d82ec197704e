"""A plain vision transformer on the digits by cross entropy: 64 tokens, for token merging.

python tools/train.py configs/digits/ce_vit.py
"""

_base_ = './ce_hybrid.py'
model = dict(
    backbone=dict(
        cnn=None,
        vit=dict(_delete_=True, model_name='vit_tiny_patch16_224', patch_size=4, embed_dim=96, depth=4, num_heads=3),
    ),
    neck=dict(_delete_=True, type='ConcatFusion', fusion_dim=96),
)
batch_size = 32
lr = 1e-3
max_epochs = 60
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=True, begin=0, end=6, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-3, by_epoch=True, begin=6, convert_to_iter_based=True),
]
train_cfg = dict(val_interval=5)
auto_scale_lr = dict(base_batch_size=32)
