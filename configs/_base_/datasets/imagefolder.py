"""Class folders, `train/<class>/*` and `val/<class>/*`; the number of classes is counted."""

data_root = 'data/imagenet'  # fills every dataset without one
batch_size = 128  # of one process; fills every dataloader without one
train_pipeline = [
    dict(type='LoadImage', decode_scale='crop'),
    dict(type='RandomCropToSize', interpolation='bicubic', backend='torch'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[104, 116, 124],
        fill_std=[57, 57, 58],
    ),
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
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='ValLoss')]
test_dataloader = val_dataloader
test_evaluator = [dict(type='Accuracy', topk=(1, 5))]
