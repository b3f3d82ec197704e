"""The 1,797 handwritten digits of scikit-learn: training, validation and 360 test images (stratified)."""

batch_size = 64
train_pipeline = [
    dict(type='ResizeToSize'),
    dict(type='RandomAffine', degrees=12, translate=0.08, scale=(0.9, 1.1), shear=8),
    dict(type='PackInputs'),
]
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
val_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='ValLoss')]
test_dataloader = dict(
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', pipeline=val_pipeline),
)
test_evaluator = [dict(type='Accuracy', topk=(1,))]
