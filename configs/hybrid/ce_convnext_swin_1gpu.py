"""`ce_convnext_swin.py` on one GPU: smaller batches, gradients of 32 of them for one update, as many images.

python tools/train.py configs/hybrid/ce_convnext_swin_1gpu.py
"""

_base_ = './ce_convnext_swin.py'
model = dict(backbone=dict(with_cp=True))  # activations are computed again instead of kept
batch_size = 32
optim_wrapper = dict(accumulative_counts=32)
