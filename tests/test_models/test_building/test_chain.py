"""Channels that flow from part to part, and what cannot be a chain."""

import pytest
import torch
from torch import nn

from hybridcls.models.building.chain import as_features, build_chain, build_part
from hybridcls.registry import MODELS

LENET = dict(type='LeNet5', num_classes=-1)


class Pyramid(nn.Module):
    """A backbone of two features that declares nothing."""

    def forward(self, x):
        return x.new_zeros(len(x), 5, 4, 4), x.new_zeros(len(x), 7, 2, 2)


class Streams(Pyramid):
    stream_names = ('cnn', 'vit')
    img_size = 32


class Concat(nn.Module):
    """A neck that declares no out_channels."""

    def __init__(self, in_channels, wrong=False):
        super().__init__()
        self.seen, self.wrong = in_channels, wrong

    def forward(self, features):
        if self.wrong:
            raise KeyError('cnn')
        return torch.cat([feature.mean((2, 3)) for feature in features], 1)


class Plain(nn.Module):
    """A neck that takes nothing and declares nothing."""

    def forward(self, features):
        return features[-1].mean((2, 3))


class Logits(nn.Module):
    def __init__(self, in_channels, num_classes=4):
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)


def test_each_part_learns_the_channels_before_it():
    chain = build_chain('test', dict(type=Pyramid), dict(type=Concat), dict(type=Logits))
    assert chain.neck.seen == [5, 7]  # a list: mmdet's and mmseg's necks insist on one
    assert (chain.head.fc.in_features, chain.width) == (12, 12)
    assert build_chain('test', dict(type=Pyramid), dict(type=Plain), dict(type=Logits)).width == 7


def test_without_a_neck_the_head_gets_the_last_feature():
    assert build_chain('test', Pyramid(), None, dict(type=Logits)).head.fc.in_features == 7
    assert build_chain('test', LENET)[1:] == (None, None, 120)


def test_what_the_config_says_is_not_filled():
    assert build_chain('test', Pyramid(), dict(type=Concat, in_channels=3)).neck.seen == 3


def test_two_streams_need_a_neck_that_joins_them():
    with pytest.raises(ValueError, match='test: the backbone has 2 streams and no neck joins them'):
        build_chain('test', Streams(), None, dict(type=Logits))
    with pytest.raises(ValueError, match=r'Concat does not join them.*\(1, 7, 2, 2\), it raises KeyError'):
        build_chain('test', Streams(), dict(type=Concat, wrong=True), dict(type=Logits))
    assert build_chain('test', Streams()).head is None  # features alone may be two


def test_an_unknown_key_and_no_type():
    with pytest.raises(TypeError, match=r"test: neck \(Concat\): unknown key 'wrnog'. Did you mean 'wrong'"):
        build_chain('test', Pyramid(), dict(type=Concat, wrnog=True))
    with pytest.raises(TypeError, match="test: expected head as a module or a dict with a 'type', got head=3"):
        build_part('test', 'head', 3)
    module = nn.Linear(1, 1)
    assert build_part('test', 'head', module) is module


def test_what_is_known_is_filled_and_kept():
    head = build_part('test', 'head', dict(type=Logits, in_channels=2), num_classes=9)
    assert (head.fc.out_features, head.num_classes, head.in_channels if hasattr(head, 'in_channels') else 2) == (
        9,
        9,
        2,
    )
    assert MODELS.build(dict(type=Logits, in_channels=2)).fc.out_features == 4


def test_features_are_a_tuple():
    one = torch.zeros(1)
    assert as_features('test', 'neck', one) == (one,)
    assert as_features('test', 'neck', [one]) == [one]
    with pytest.raises(TypeError, match=r'test: expected a tensor .* from the neck, got .* keys cls, pos'):
        as_features('test', 'neck', dict(cls=one, pos=one))
