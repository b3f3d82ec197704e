"""What a classifier asks of a head of any package."""

import pytest
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.models.heads.head import check_head, samples_of_rows, takes_views
from hybridcls.registry import MODELS


class OnlyLoss(nn.Module):
    def loss(self, feats, data_samples):
        return dict(loss=feats[-1].sum())


def test_samples_once_an_image_or_once_a_row():
    ours = MODELS.build(dict(type='LinearHead', num_classes=2, in_channels=3))
    samples = [DataSample(), DataSample()]
    assert takes_views(ours)
    assert samples_of_rows(ours, 6, samples) is samples
    assert not takes_views(OnlyLoss())
    assert samples_of_rows(OnlyLoss(), 6, samples) == samples * 3
    assert samples_of_rows(OnlyLoss(), 0, []) == []


def test_missing_methods():
    check_head('test', OnlyLoss())
    with pytest.raises(TypeError, match=r'test: expected a head with the method predict\(.*\), got OnlyLoss'):
        check_head('test', OnlyLoss(), 'predict')
    with pytest.raises(TypeError, match=r'HybridClassifier: expected a head with the method loss\(.*\), got Identity'):
        MODELS.build(dict(type='HybridClassifier', backbone=dict(type='LeNet5'), head=nn.Identity()))
    with pytest.raises(TypeError, match=r'MultiHead: expected a head with the method loss'):
        MODELS.build(dict(type='MultiHead', in_channels=3, heads=dict(one=nn.Identity())))
