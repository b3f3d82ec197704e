"""A small timm model learns from a trained large one as well as from the labels.

    hybridcls train finetune/distill --data FOLDER --model NAME --checkpoint FILE --teacher CHECKPOINT
CHECKPOINT is a checkpoint or the work dir of a training on the same classes.
"""

_base_ = './full.py'
teacher = None
default_hooks = dict(distillation=dict(type='DistillationHook', teacher=teacher, distill_weight=0.5, temperature=2.0))
