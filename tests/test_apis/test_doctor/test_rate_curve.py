"""The rate over a training: what the schedulers of mmengine do in a Runner is what is looked at."""

import math

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.data_parts import DataPart
from hybridcls.apis.doctor.rate_curve import check_curve, iterations_of_epoch, rates_of
from hybridcls.apis.doctor.subject import Subject


def subject_of(*schedulers, epochs=10, rate=1e-3):
    cfg = dict(
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=dict(batch_size=4, drop_last=True),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=rate)),
        param_scheduler=list(schedulers),
    )
    images = [(number % 2,) for number in range(18)]
    return Subject(Config(cfg), '', parts=dict(train=DataPart('train', None, labels=images)))


def found(*schedulers, **keys):
    return [(one.level, one.where) for one in check_curve(subject_of(*schedulers, **keys), largest=4e-3)]


def test_batches_of_an_epoch():
    subject = subject_of()
    assert iterations_of_epoch(subject) == 4
    subject.cfg.train_dataloader.drop_last = False
    assert iterations_of_epoch(subject) == 5
    subject.cfg.train_dataloader.batch_sampler = dict(type='PKSampler')
    assert iterations_of_epoch(subject) is None


def test_rates_are_those_of_the_formulas():
    cosine = dict(type='CosineAnnealingLR', T_max=10)
    subject = subject_of(cosine)
    expected = [5e-4 * (1 + math.cos(math.pi * epoch / 10)) for epoch in range(10)]
    assert rates_of(subject, [(('param_scheduler', 0), cosine)], 1e-3) == pytest.approx(expected)
    warmup = dict(type='LinearLR', start_factor=0.5, end=2, convert_to_iter_based=True)  # eight batches
    rates = rates_of(subject, [(('param_scheduler', 0), warmup)], 1e-3)
    assert len(rates) == 40
    assert rates[:3] == pytest.approx([5e-4, 5e-4 * (1 + 1 / 7), 5e-4 * (1 + 2 / 7)])
    assert rates[7:9] == pytest.approx([1e-3, 1e-3])


@pytest.mark.parametrize(
    ('scheduler', 'epochs', 'level'),
    [
        (dict(type='StepLR', step_size=3, gamma=0.1), 10, None),
        (dict(type='StepLR', step_size=1, gamma=0.1), 50, 'warning'),
        (dict(type='ExponentialLR', gamma=0.9), 50, None),
        (dict(type='ExponentialLR', gamma=0.5), 100, 'warning'),
        (dict(type='MultiStepLR', milestones=[2, 4], gamma=10.0), 10, 'problem'),
        (dict(type='CosineAnnealingLR', T_max=10, eta_min=0), 10, None),
        (dict(type='CosineRestartLR', periods=[5, 5], restart_weights=[1, 0.5], eta_min=0), 10, None),
        (dict(type='OneCycleLR', eta_max=1e-3, total_steps=40, by_epoch=False), 10, None),
        (dict(type='OneCycleLR', eta_max=1.0, total_steps=40, by_epoch=False), 10, 'problem'),
        (dict(type='ConstantLR', factor=0.1, end=100), 10, 'problem'),
        (dict(type='ReduceOnPlateauLR', monitor='loss'), 10, None),
    ],
    ids=str,
)
def test_where_schedules_lead(scheduler, epochs, level):
    assert found(scheduler, epochs=epochs) == ([] if level is None else [(level, 'param_scheduler.0')])
