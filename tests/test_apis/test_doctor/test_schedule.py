"""Rates and schedules that fit the training are not told; those of trained weights have other limits."""

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.schedule import check_schedule, starts_from_weights
from hybridcls.apis.doctor.subject import Subject


def findings(**keys):
    base = dict(
        train_cfg=dict(by_epoch=True, max_epochs=10),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        val_cfg=dict(),
        model=dict(backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'))),
    )
    return {one.where: one.level for one in check_schedule(Subject(Config({**base, **keys}), ''))}


def test_a_common_training_is_fine():
    warmup = dict(type='LinearLR', start_factor=0.01, begin=0, end=2)
    cosine = dict(type='CosineAnnealingLR', begin=2, end=10, T_max=8)
    assert findings(param_scheduler=[warmup, cosine]) == {}


def test_a_warmup_of_one_epoch_that_is_not_in_iterations_never_ends():
    # In mmengine's schedulers a rate moves on *between* the epochs of its range: one epoch has no between, and the rate
    # stays at the hundredth for the whole training.
    warmup = dict(type='LinearLR', start_factor=0.01, begin=0, end=1)
    cosine = dict(type='CosineAnnealingLR', begin=1, end=10, T_max=9)
    assert findings(param_scheduler=[warmup, cosine]) == {'param_scheduler.0': 'problem'}


@pytest.mark.parametrize(
    ('optimizer', 'pretrained', 'level'),
    [
        (dict(type='AdamW', lr=4e-3), False, None),  # ConvNeXt's, with 4,096 images a batch
        (dict(type='AdamW', lr=5e-3), False, 'warning'),
        (dict(type='AdamW', lr=5e-3), True, 'warning'),
        (dict(type='AdamW', lr=0.1), True, 'problem'),
        (dict(type='SGD', lr=0.1), True, None),
        (dict(type='SGD', lr=8.0), False, 'problem'),
        (dict(type='AdamW', lr=0.0), False, 'problem'),
    ],
)
def test_rates(optimizer, pretrained, level):
    stream = dict(model_name='test_resnet', pretrained=pretrained)
    model = dict(backbone=dict(type='HybridBackbone', cnn=stream))
    found = findings(optim_wrapper=dict(optimizer=optimizer), model=model)
    assert found.get('optim_wrapper.optimizer.lr') == level
    assert starts_from_weights(Subject(Config(dict(model=model)), '')) == pretrained


@pytest.mark.parametrize(
    ('scheduler', 'where', 'level'),
    [
        (dict(type='LinearLR', start_factor=0.1, end=6), 'param_scheduler.0', 'warning'),
        (dict(type='LinearLR', start_factor=0.1, end=11), 'param_scheduler.0', 'problem'),
        (dict(type='CosineAnnealingLR', T_max=4), 'param_scheduler.0', 'warning'),
        (dict(type='StepLR', step_size=3, begin=10), 'param_scheduler.0', 'problem'),
        (dict(type='MultiStepLR', milestones=[5, 10]), 'param_scheduler.0.milestones', 'warning'),
    ],
)
def test_schedules(scheduler, where, level):
    assert findings(param_scheduler=[scheduler]) == {where: level}


def test_a_best_checkpoint_needs_a_validation():
    checkpoint = dict(checkpoint=dict(type='CheckpointHook', save_best='auto'))
    assert findings(default_hooks=checkpoint, val_cfg=None) == {'default_hooks.checkpoint.save_best': 'problem'}
