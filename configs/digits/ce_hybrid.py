"""Baseline: cross entropy on the digits, from scratch.

python tools/train.py configs/digits/ce_hybrid.py
"""

_base_ = './adaface_hybrid.py'
model = dict(head=dict(_delete_=True, type='LinearHead'))
