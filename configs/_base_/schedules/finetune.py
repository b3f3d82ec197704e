"""Fine-tuning with AdamW: rates that fall with the depth, a moving average of the weights, an early end.

What is None is chosen by the number of images, and told; warm-up and cosine are fractions of the training, so that they
follow `--epochs`.
"""

max_epochs = None
lr = None
optim_wrapper = dict(
    type='ComposedOptimWrapper',
    optimizer=dict(type='AdamW', weight_decay=0.05, fused=True),
    constructor='HybridOptimWrapperConstructor',  # no decay of norms, biases, tables
    paramwise_cfg=dict(layer_decay_rate=0.9),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end_fraction=0.1),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin_fraction=0.1),
]
train_cfg = dict(by_epoch=True, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)
