"""Class folders, two views of each image by SimCLR's augmentations; evaluated by nearest neighbours."""

data_root = 'data/imagenet'  # fills every dataset without one
batch_size = 64  # images of one process, so 128 views; fills every dataloader without one
view_pipeline = [
    dict(type='RandomCropToSize', crop_ratio_range=(0.2, 1.0), interpolation='bicubic', backend='torch'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='FusedColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        prob=0.8,
        grayscale_prob=0.2,
    ),
]
train_pipeline = [
    dict(type='LoadImage', decode_scale='crop'),
    dict(type='ImageViews', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize', crop_pct=0.9), dict(type='PackInputs')]
train_dataloader = dict(
    num_workers=8,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ImageFolder', data_prefix='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageFolder', data_prefix='val', test_mode=True, pipeline=val_pipeline),
)
# Each image is classified by the others of its set; with EmbeddingBankHook by those of the training set.
val_evaluator = [dict(type='KNNAccuracy', k=20), dict(type='ValLoss')]
test_dataloader = val_dataloader
test_evaluator = [dict(type='KNNAccuracy', k=20)]
