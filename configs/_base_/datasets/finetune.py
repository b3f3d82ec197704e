"""Any folder of images, lightly augmented: `--data FOLDER`, with class folders or with train/ and val/ of such.

What is None is chosen by the number of images, and told.
"""

batch_size = None  # of one process
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='RandomCropToSize', crop_ratio_range=None, interpolation='bicubic', backend='torch'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
val_pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize', crop_pct=0.9), dict(type='PackInputs')]
train_dataloader = dict(
    num_workers=None,
    drop_last=None,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ImageFolder', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=None,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageFolder', split='val', test_mode=True, pipeline=val_pipeline),
)
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='ValLoss')]
test_dataloader = dict(
    num_workers=None,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageFolder', split='test', test_mode=True, pipeline=val_pipeline),
)
test_evaluator = [dict(type='Accuracy', topk=(1,), confidence=0.95)]
# The training images as the validation sees images: the head is fitted to them, neighbours are looked for among them.
bank_dataloader = dict(
    num_workers=None,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ImageFolder', split='train', test_mode=True, pipeline=val_pipeline),
)
