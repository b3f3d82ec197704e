"""The digits, each image twice; what is learned is judged by the nearest neighbours among the training images."""

_base_ = './digits.py'
view_pipeline = [
    dict(type='ResizeToSize', img_size=32),
    dict(type='RandomAffine', degrees=15, translate=0.1, scale=(0.85, 1.15), shear=10),
]
train_pipeline = [dict(type='MultiView', num_views=2, transforms=[view_pipeline]), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = [dict(type='KNNAccuracy', k=20), dict(type='ValLoss')]
test_evaluator = [dict(type='KNNAccuracy', k=20)]
bank_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='train', pipeline={{_base_.val_pipeline}}),
)
custom_hooks = [dict(type='EmbeddingBankHook', dataloader=bank_dataloader)]
