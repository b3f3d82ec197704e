"""A linear classifier on the frozen features of a pretrained timm model: the quickest, and the one for very few images.

hybridcls train finetune/linear_probe --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = './full.py'
max_epochs = 5
lr = 1e-4
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
default_hooks = dict(head_first=dict(frozen_epochs='all'), ema=None, early_stopping=None)
