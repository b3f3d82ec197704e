"""Settings that build, and do not mean what they seem to."""

import math

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.settings import check_settings
from hybridcls.apis.doctor.subject import Subject


def findings(**keys):
    return {one.where: one for one in check_settings(Subject(Config(keys), '')) if one.level != 'note'}


@pytest.mark.parametrize(('scale', 'is_told'), [(64.0, False), (16.0, False), (1.0, True)])
def test_a_scale_that_no_probability_reaches(scale, is_told):
    head = dict(type='ArcFaceHead', scale=scale, num_classes=10)
    found = findings(model=dict(head=head))
    assert ('model.head.scale' in found) == is_told
    if is_told:  # all others at the far side: cosines 1 and -1 / 9
        best = math.exp(scale) / (math.exp(scale) + 9 * math.exp(-scale / 9))
        assert f'{best:.2f}' in found['model.head.scale'].what


def test_the_mean_of_other_units():
    found = findings(data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]))
    assert 'mean=[123.675, 116.28, 103.53]' in found['data_preprocessor.mean'].change
    assert findings(data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3)) == {}


def test_loaders():
    loader = dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), drop_last=True, dataset=dict())
    found = findings(train_dataloader=loader, val_dataloader=loader)
    assert sorted(found) == ['train_dataloader.sampler.shuffle', 'val_dataloader.drop_last']
