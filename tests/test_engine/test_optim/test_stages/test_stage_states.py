"""States of stages, packed and loaded."""

import pytest
import torch

from hybridcls.engine.optim import Lookahead, UpdateStage
from hybridcls.engine.optim.stages.stage_states import load_stages, pack_stages, restart_stages


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(
        'hybridcls.engine.optim.stages.stage_states.print_log', lambda text, *_, **__: texts.append(text)
    )
    return texts


def lookahead(value=3.0, steps=2):
    stage = Lookahead()
    stage.slow, stage.steps_since = {0: torch.full((2,), value)}, steps
    return stage


PARAMS = [torch.nn.Parameter(torch.zeros(2))]


def test_what_is_packed_can_be_loaded(said):
    numbers, tensors = pack_stages(dict(slow=lookahead(), plain=UpdateStage()), None)
    assert numbers == dict(
        slow=dict(type='Lookahead', numbers=dict(steps_since=2)), plain=dict(type='UpdateStage', numbers={})
    )
    stages = dict(slow=Lookahead(), plain=UpdateStage())
    load_stages('me', stages, numbers, tensors, PARAMS)
    assert stages['slow'].steps_since == 2
    assert stages['slow'].slow[0].tolist() == [3, 3]
    assert not said


def test_what_is_missing_or_left_over_is_told(said):
    load_stages('me', dict(slow=Lookahead(), plain=UpdateStage()), {}, {}, PARAMS)
    assert said.pop().startswith('me: the checkpoint has no state of stages.slow (Lookahead)')
    numbers, tensors = pack_stages(dict(old=lookahead(), plain=UpdateStage()), None)
    load_stages('me', {}, numbers, tensors, PARAMS)
    assert 'a state of stages.old (Lookahead), which this run does not have' in said.pop()
    assert not said


def test_stages_that_have_tensors_start_again(said):
    stages = dict(slow=lookahead(), plain=UpdateStage())
    restart_stages('me', stages, dict(slow=Lookahead().state_dict()), PARAMS)
    assert (stages['slow'].slow, stages['slow'].steps_since) == ({}, 0)
    assert 'state of stages.slow (Lookahead) in the checkpoint belongs to other weights' in said.pop()
    assert not said
