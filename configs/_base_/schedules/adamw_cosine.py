"""AdamW with a warm-up of 5 epochs and a cosine over 100, for batches of 1,024 images."""

max_epochs = 100
lr = 5e-4
optim_wrapper = dict(
    type='ComposedOptimWrapper',
    optimizer=dict(type='AdamW', weight_decay=0.05, fused=True),
    constructor='HybridOptimWrapperConstructor',  # no decay of norms, biases, tables; paramwise_cfg: rates by depth
    amp='bfloat16',
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=2e-3, by_epoch=True, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=1024)  # used with --auto-scale-lr
