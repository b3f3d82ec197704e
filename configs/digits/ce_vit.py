"""A plain vision transformer on the digits by cross entropy, alone: 16 tokens, which can merge.

    python tools/train.py configs/digits/ce_vit.py
"""
_base_ = './ce_hybrid.py'
model = dict(
    backbone=dict(
        cnn=None,
        vit=dict(
            _delete_=True,
            model_name='vit_tiny_patch16_224',
            patch_size=8,
            embed_dim=64,
            depth=6,
            num_heads=2,
            drop_path_rate=0.1)),
    neck=dict(_delete_=True, type='ConcatFusion', fusion_dim=64))
train_cfg = dict(max_epochs=60, val_interval=5)
