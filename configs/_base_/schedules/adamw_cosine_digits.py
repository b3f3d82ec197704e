"""AdamW with a warm-up and a cosine over 20 epochs, for 23 batches an epoch."""

max_epochs = 20
lr = 2e-3
optim_wrapper = dict(
    type='ComposedOptimWrapper',
    optimizer=dict(type='AdamW', weight_decay=0.05, fused=True),
    constructor='HybridOptimWrapperConstructor',  # no decay of norms, biases, tables; paramwise_cfg: rates by depth
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-3, by_epoch=True, begin=2, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)
