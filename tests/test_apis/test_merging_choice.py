"""choose_merging: with a simulated clock, whose times are counted by hand, and with a real one."""

import pytest
import timm
import torch

from hybridcls.apis import merging_choice
from hybridcls.apis.merging_choice import choose_merging
from hybridcls.apis.timing import Timing


@pytest.fixture
def model():
    return timm.create_model('test_vit', img_size=64).eval()


@pytest.fixture
def clock(monkeypatch, model):
    """A machine on which a forward pass takes as many milliseconds as its blocks have patches."""
    tried = []

    def timings(functions, rounds, warmup):
        lengths = {}
        handles = [
            block.mlp.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0].shape[1] - 1))
            for block in model.blocks
        ]
        for name, function in functions.items():
            seen = []
            function()
            lengths[name] = sum(seen)
        for handle in handles:
            handle.remove()
        tried.append(lengths['merged'])
        merged, whole = lengths['merged'], lengths['whole']
        return dict(merged=Timing(merged / 1e3, 1.0, (1.0, 1.0)), whole=Timing(whole / 1e3, whole / merged, (1.0, 1.0)))

    monkeypatch.setattr(merging_choice, 'interleaved_timings', timings)
    return tried


# Patches in the six MLPs: r=0: 96; r=1: 15 14 13 12 11 10 = 75; r=2: 14 12 10 8 6 4 = 54; r=8: 8 4 2 1 1 1 = 17.
@pytest.mark.parametrize(
    ('wish', 'r'),
    [
        (dict(speedup=1), 0),
        (dict(speedup=1.2), 1),
        (dict(speedup=1.28), 1),
        (dict(speedup=1.3), 2),
        (dict(target_seconds=0.096), 0),
        (dict(target_seconds=0.0751), 1),
        (dict(target_seconds=0.0749), 2),
    ],
)
def test_smallest_r_that_reaches_the_target(model, clock, wish, r):
    images = torch.rand(2, 3, 64, 64)
    choice = choose_merging(model.train(), images, **wish)
    assert choice.r == r
    assert choice.whole_seconds == pytest.approx(0.096)
    assert model.training
    assert not hasattr(model, 'token_merging')
    assert len(clock) <= 6


# r=1 falling: 2 1 1 0 0 0 are merged, so 14 13 12 12 12 12 = 75 are left; r=2: 4 3 2 1 0 0, so 12 9 7 6 6 6 = 46.
@pytest.mark.parametrize(('speedup', 'r'), [(1.28, 1), (1.3, 2), (2.08, 2), (2.09, 3)])
def test_inflection_is_passed_on(model, clock, speedup, r):
    choice = choose_merging(model, torch.rand(2, 3, 64, 64), speedup=speedup, inflection=-1)
    assert choice.r == r
    assert choice.ratio == dict(r=r, inflection=-1)


def test_unreachable_target_is_an_error(model, clock):
    with pytest.raises(
        ValueError,
        match=r'reach 10\.00 times, got .* 1 image, 5\.65 times as fast, .*r=8.*larger batches',
    ):
        choose_merging(model, torch.rand(1, 3, 64, 64), speedup=10.0)
    assert not hasattr(model, 'token_merging')


@pytest.mark.parametrize(
    ('wish', 'error', 'message'),
    [
        ({}, ValueError, 'either speedup or target_seconds'),
        (dict(speedup=2.0, target_seconds=1.0), ValueError, 'either speedup or target_seconds'),
        (dict(speedup=0.5), ValueError, r'expected speedup in .* got 0.5'),
        (dict(speedup=2.0, inflection=-2), ValueError, r'expected inflection in .* got -2'),
        (dict(target_seconds=0), ValueError, r'expected target_seconds in .* got 0'),
    ],
)
def test_invalid_targets_are_errors(model, wish, error, message):
    with pytest.raises(error, match=message):
        choose_merging(model, torch.rand(1, 3, 64, 64), **wish)


def test_choice_with_a_real_clock(model):
    choice = choose_merging(model, torch.rand(4, 3, 64, 64), target_seconds=60.0, rounds=1)
    assert choice.r == 0
    assert 0 < choice.seconds < 60
