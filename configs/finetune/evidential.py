"""A classifier that tells how unsure it is: evidence instead of softmax, on a pretrained timm model.

hybridcls train finetune/evidential --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = './full.py'
model = dict(head=dict(_delete_=True, type='EvidentialHead'))
