"""`supcon_convnext_swin.py` with batches of 16 classes with 4 images each, for datasets of many small classes.

bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin_pk.py 8
"""

_base_ = './supcon_convnext_swin.py'
train_dataloader = dict(
    batch_size=64,  # of one process: 16 x 4
    drop_last=False,  # no batch of this sampler is incomplete
    batch_sampler=dict(type='PKSampler', images_per_class=4),
)
