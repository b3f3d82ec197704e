"""`ce_convnext_swin.py` on one GPU: smaller batches with accumulated gradients, the same number of images per update.

python tools/train.py configs/hybrid/ce_convnext_swin_1gpu.py
"""

_base_ = './ce_convnext_swin.py'
model = dict(backbone=dict(with_cp=True))  # recompute activations to save memory
batch_size = 32
optim_wrapper = dict(accumulative_counts=32)
