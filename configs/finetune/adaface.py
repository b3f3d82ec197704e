"""An AdaFace head on a pretrained timm model; phase 2 of supcon_adaface.py.

hybridcls train finetune/adaface --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = './arcface.py'
model = dict(head=dict(_delete_=True, type='AdaFaceHead', margin=0.4, scale=16.0))
