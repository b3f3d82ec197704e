"""States of the random generators, kept, saved and restored."""

import random

import numpy as np
import pytest
import torch

from hybridcls.replay.random_state import (
    as_tensors,
    get_random_state,
    isolated_randomness,
    seed_generators,
    set_random_state,
)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1), np.random.randn()  # noqa: NPY002


def test_a_state_that_went_through_a_file_is_restored(tmp_path):
    draw()
    state = get_random_state()
    torch.save(as_tensors(state), tmp_path / 'state.pth')
    expected = draw()
    draw()
    elsewhere = dict(state, npu=torch.get_rng_state(), mps=torch.get_rng_state(), cuda=torch.get_rng_state())
    if torch.cuda.is_available():
        elsewhere['cuda'] = torch.cuda.get_rng_state()
    for kept in (torch.load(tmp_path / 'state.pth', weights_only=True), state, elsewhere):
        set_random_state(kept)
        assert draw() == expected


def test_a_torch_that_was_built_for_no_accelerator_has_states(monkeypatch):
    def refuse():
        raise RuntimeError('Cannot access accelerator device when none is available.')

    monkeypatch.setattr(torch.accelerator, 'current_accelerator', refuse)  # as torch 2.6 does
    assert torch.cuda.is_initialized() or set(get_random_state()) == {'python', 'numpy', 'torch'}


def test_seeds_are_kept_apart_and_repeat():
    drawn = []
    for words in ((1, 2), (1, 2), (2**64 - 1, 3)):
        seed_generators(*words)
        drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_isolated_randomness_leaves_no_trace():
    seed_generators(1, 2)
    state = get_random_state()
    first = draw()
    second_state = get_random_state()
    second = draw()
    set_random_state(second_state)
    with isolated_randomness():
        draw()
    with isolated_randomness(state):
        assert draw() == first
    set_random_state(second_state)
    with pytest.raises(TypeError), isolated_randomness(state):
        draw() / 0
    assert draw() == second
