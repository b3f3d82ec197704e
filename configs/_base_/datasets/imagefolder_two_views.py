"""The same folder, each image twice under SimCLR's augmentations; what is learned is judged by nearest neighbours."""

_base_ = './imagefolder.py'
view_pipeline = [
    dict(type='RandomCropToSize', img_size=192, scale=(0.2, 1.0), interpolation='bicubic', backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        prob=0.8,
    ),
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True),
]
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='MultiView', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,  # images of one process, so 128 views
    dataset=dict(pipeline=train_pipeline),
)
# Each image is classified by the others of its set; EmbeddingBankHook would ask those of the training set instead.
val_evaluator = [dict(type='KNNAccuracy', k=20), dict(type='ValLoss')]
test_evaluator = [dict(type='KNNAccuracy', k=20)]
