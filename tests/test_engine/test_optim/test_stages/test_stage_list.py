"""Stages of an update as a config names them, and what is refused."""

import pytest
import torch

from hybridcls.engine.optim import SAM, Lookahead, UpdateStage
from hybridcls.engine.optim.stages.stage_list import build_stages


def test_the_order_given_is_the_order_of_visits_and_none_is_off():
    stages = build_stages('me', dict(b=dict(type='Lookahead', k=3), off=None, a=dict(type=SAM, rho=0.2), c=Third()))
    assert list(stages) == ['b', 'a', 'c']
    assert (stages['b'].k, stages['a'].rho) == (3, 0.2)


def test_a_list_will_do():
    assert list(build_stages('me', [dict(type='SAM'), None, Lookahead()])) == ['stage0', 'stage2']
    assert build_stages('me', None) == build_stages('me', []) == {}


class Third(UpdateStage):
    pass


class Other(UpdateStage):
    has_second_pass = True


class Asks(UpdateStage):
    def needs_second_pass(self, update):
        return True


class NoTuple(UpdateStage):
    tensor_state = 'slow'

    def __init__(self):
        self.slow = {}


class NoDict(UpdateStage):
    tensor_state = ('slow',)

    def __init__(self):
        self.slow = []


class NoNumber(UpdateStage):
    number_state = ['since']

    def __init__(self):
        self.since = torch.zeros(())


class Later(UpdateStage):
    number_state = ('since',)


class Unrelated:
    pass


@pytest.mark.parametrize(
    ('stages', 'error', 'text'),
    [
        (dict(a=Lookahead(), b=Lookahead(k=2)), ValueError, r"both of the kind 'averaging'.*stages=dict\(b=None\)"),
        ('SAM', TypeError, "expected stages to be a dict of named stages, .* got 'SAM'"),
        (dict(a='SAM'), TypeError, "expected stages.a to be a dict with a type, an UpdateStage, or None .* got 'SAM'"),
        (dict(a=dict(rho=1.0)), TypeError, 'to be a dict with a type'),
        (dict(a=dict(type=Unrelated)), TypeError, 'expected stages.a to be a stage of an update, got a Unrelated'),
        (dict(a=SAM(), b=Other()), ValueError, 'stages.a and stages.b both look for another gradient'),
        (dict(a=Asks()), TypeError, r'Asks \(stages.a\): needs_second_pass is overridden, but second_pass, .* is not'),
        (dict(a=NoTuple()), TypeError, r"stages.a\): expected tensor_state to be a tuple .*, got 'slow'. .* its comma"),
        (dict(a=NoDict()), TypeError, 'attribute slow of tensor_state to be a dict of tensors by position, got list'),
        (dict(a=NoNumber()), TypeError, 'attribute since of number_state to be a plain number, got Tensor'),
        (dict(a=Later()), TypeError, 'since of number_state to be a plain number, got nothing. Set it in __init__'),
    ],
    ids=str,
)
def test_stages_that_cannot_be(stages, error, text):
    with pytest.raises(error, match=text):
        build_stages('me', stages)
