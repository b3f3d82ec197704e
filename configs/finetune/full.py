"""All weights of a pretrained timm model on your folder of images: the first choice.

hybridcls train finetune/full --data FOLDER --model NAME --checkpoint FILE
"""

_base_ = [
    '../_base_/models/timm_backbone.py',
    '../_base_/datasets/finetune.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/finetune.py',
]
backward_compat = None  # --backward-compat OLD: embeddings that can search OLD's index
default_hooks = dict(
    backward_compat=dict(type='BackwardCompatHook', old=backward_compat, dataloader={{_base_.bank_dataloader}}),
    head_first=dict(type='HeadFirstHook', dataloader={{_base_.bank_dataloader}}),
    ema=dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=1, momentum=None, update_buffers=True),
    early_stopping=dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=0.0, patience=None),
    checkpoint=dict(save_best='accuracy/top1', best_tolerance='standard_error', max_keep_ckpts=1),
)
