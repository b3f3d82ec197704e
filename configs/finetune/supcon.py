"""Supervised contrastive learning of two views, from a pretrained timm model; phase 1 of supcon_adaface.py.

hybridcls train finetune/supcon --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = './full.py'
view_pipeline = [
    dict(type='RandomCropToSize', crop_ratio_range=None, interpolation='bicubic', backend='torch'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='FusedColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8, grayscale_prob=0.2),
]
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='ImageViews', num_views=2, transforms=[view_pipeline]),
    dict(type='PackInputs'),
]
model = dict(
    head=dict(
        _delete_=True,
        type='SupConHead',
        projection=dict(out_channels=128),
        loss=dict(type='SupConLoss', temperature=0.1),
    )
)
val_evaluator = [dict(type='KNNAccuracy', k=5), dict(type='ValLoss')]
test_evaluator = [dict(type='KNNAccuracy', k=5, confidence=0.95)]
default_hooks = dict(
    head_first=None,
    bank=dict(type='EmbeddingBankHook', dataloader={{_base_.bank_dataloader}}),
    early_stopping=dict(monitor='knn/top1'),
    checkpoint=dict(save_best='knn/top1'),
)
