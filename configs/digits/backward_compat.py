"""A new model on the digits whose embeddings can search the index of an old one: an AdaFace head beside the old head.

    hybridcls train digits/backward_compat --backward-compat OLD
OLD is a checkpoint or the work dir of a training, such as of ce_hybrid.py; docs/backward_compatible.md.
"""

_base_ = './adaface_hybrid.py'
backward_compat = None
default_hooks = dict(
    backward_compat=dict(
        type='BackwardCompatHook',
        old=backward_compat,
        dataloader=dict(
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='Digits', split='train', pipeline={{_base_.val_pipeline}}),
        ),
    )
)
