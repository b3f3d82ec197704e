"""20 training images a class, on which levers that regularize have something to show; for `hybridcls ablate`.

hybridcls ablate digits/few_images --levers sam,lookahead,gc --seeds 5 --vary train_dataloader.dataset.images_seed
"""

_base_ = './ce_hybrid.py'
batch_size = 32
max_epochs = 40
train_dataloader = dict(dataset=dict(images_per_class=20))
train_cfg = dict(val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=True, begin=0, end=4, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min_ratio=5e-3, by_epoch=True, begin=4, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=40, save_best=None), curves=None)
