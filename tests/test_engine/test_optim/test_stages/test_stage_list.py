"""Stages of an update as a config names them, and what is refused."""

import pytest
import torch

from hybridcls.distributed.drawn_rows import gather_drawn, with_row_gradient
from hybridcls.engine.optim import SAM, ComposedOptimWrapper, Lookahead, UpdateStage
from hybridcls.engine.optim.stages import stage_list
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


@pytest.mark.parametrize('is_drawn', [True, False])
def test_a_stage_of_another_package_that_drawn_rows_pass_by_is_named(is_drawn, monkeypatch):
    class Doubled(UpdateStage):
        def before_step(self, update):
            seen.extend(update.with_gradient())
            rows.extend(len(param) for group in update.optimizer.param_groups for param in group['params'])

    said = []
    monkeypatch.setattr(stage_list, 'print_log', lambda text, *_: said.append(text))
    seen, rows, model = [], [], torch.nn.Linear(2, 4, bias=False)
    if is_drawn:
        with_row_gradient(model.weight)
    wrapper = ComposedOptimWrapper(torch.optim.SGD(model.parameters(), 0.1), dict(mine=Doubled(), la=Lookahead(k=5)))
    wrapper.initialize_count_status(model, 0, 1)
    with wrapper.optim_context(model):
        loss = gather_drawn(model.weight, torch.tensor([1, 3])).sum() if is_drawn else model.weight.sum()
    wrapper.update_params(loss)
    assert (seen, rows) == (([], [2]) if is_drawn else ([0], [4]))
    assert [line.split(': update_drawn_only')[0] for line in said] == ['Doubled (stages.mine)'] * is_drawn
