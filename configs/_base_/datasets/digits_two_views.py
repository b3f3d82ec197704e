"""Two views of each digit; evaluated by the nearest neighbours among the training images."""

batch_size = 64
view_pipeline = [
    dict(type='ResizeToSize'),
    dict(type='RandomAffine', degrees=15, translate=0.1, scale=(0.85, 1.15), shear=10),
]
train_pipeline = [dict(type='MultiView', num_views=2, transforms=[view_pipeline]), dict(type='PackInputs')]
val_pipeline = [dict(type='ResizeToSize'), dict(type='PackInputs')]
train_dataloader = dict(
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val', pipeline=val_pipeline),
)
val_evaluator = [dict(type='KNNAccuracy', k=20), dict(type='ValLoss')]
test_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=val_pipeline),
)
test_evaluator = [dict(type='KNNAccuracy', k=20)]
bank_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='train', pipeline=val_pipeline),
)
custom_hooks = [dict(type='EmbeddingBankHook', dataloader=bank_dataloader)]
