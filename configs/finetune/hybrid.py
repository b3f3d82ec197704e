"""A CNN and a vision transformer together, on your folder of images.

hybridcls train finetune/hybrid --data FOLDER --cnn NAME --vit NAME
"""

_base_ = './full.py'
model = dict(
    backbone=dict(
        cnn=dict(model_name='convnextv2_tiny'),
        vit=dict(model_name='swinv2_tiny_window8_256'),
    ),
    neck=dict(type='DHAFusion', fusion_dim=1024),
)
default_hooks = dict(head_first=dict(frozen_epochs=1, parts=['backbone']))
