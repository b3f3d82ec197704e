"""The data preprocessor that a classifier builds for its head."""

import pytest
from torch import nn

from hybridcls.models.building.preprocessor import build_preprocessor
from hybridcls.models.data_preprocessors import HybridDataPreprocessor

MIXUP = dict(augments=dict(type='Mixup', alpha=1.0))


def test_ours_unless_another_is_named_and_it_knows_the_classes():
    built = build_preprocessor('test', None, MIXUP, 7)
    assert isinstance(built, HybridDataPreprocessor)
    assert built.num_classes == 7
    assert [type(one).__name__ for one in built.batch_augments.augments] == ['Mixup']
    assert type(build_preprocessor('test', dict(type='ClsDataPreprocessor'), None, 7)).__name__ == 'ClsDataPreprocessor'


def test_two_places_for_augmentations():
    same = dict(batch_augments=MIXUP)
    assert build_preprocessor('test', same, MIXUP, 3).batch_augments is not None
    with pytest.raises(ValueError, match=r'test: train_cfg and data_preprocessor.batch_augments name different'):
        build_preprocessor('test', same, dict(augments=dict(type='Mixup', alpha=0.5)), 3)
    module = nn.Identity()
    assert build_preprocessor('test', module, None, 3) is module
    with pytest.raises(ValueError, match=r'test: train_cfg is for the data preprocessor, and .* built already'):
        build_preprocessor('test', module, MIXUP, 3)
