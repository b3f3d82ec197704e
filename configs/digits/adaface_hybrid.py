"""Phase 2 on the digits: an AdaFace head. Starts from scratch; two_phase.py loads the weights of phase 1.

python tools/train.py configs/digits/adaface_hybrid.py
"""

_base_ = [
    '../_base_/models/hybrid_digits.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_cosine_digits.py',
    '../_base_/default_runtime.py',
]
num_classes = 10
model = dict(head=dict(type='AdaFaceHead', scale=16.0))  # 64 is for thousands of classes
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best='accuracy/top1'))
