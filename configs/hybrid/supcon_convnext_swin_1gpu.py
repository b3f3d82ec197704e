"""`supcon_convnext_swin.py` on one GPU: the same batch of 512 images, embedded 32 views at a time.

    python tools/train.py configs/hybrid/supcon_convnext_swin_1gpu.py

Gradient caching computes the gradient of the whole batch in the memory of a small one, at the cost of one more forward
pass; gradient accumulation would contrast only the images of each small batch.
"""

_base_ = './supcon_convnext_swin.py'
model = dict(grad_cache=dict(micro_batch=32))
train_dataloader = dict(batch_size=512)
