"""The digits, with the fusion of this project instead of the gate.

python tools/train.py projects/example_project/configs/bilinear_digits.py
"""

_base_ = '../../../configs/digits/ce_hybrid.py'
custom_imports = dict(imports=['projects.example_project'], allow_failed_imports=False)
model = dict(neck=dict(_delete_=True, type='LowRankBilinearFusion', fusion_dim=128, rank=128))
