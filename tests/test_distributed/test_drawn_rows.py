"""Drawn rows alone are updated: against SGD and AdamW written out in float64."""

import copy
import math

import pytest
import torch
from drawn_rows_by_hand import OPTIMIZERS_OF, STAGES, check_drawn_rows
from torch import nn

from hybridcls.distributed.drawn_rows import gather_drawn, updating_drawn_rows, with_row_gradient
from hybridcls.engine.optim import ComposedOptimWrapper

CLASSES, WIDTH, LR, DECAY = 12, 3, 0.1, 0.2
generator = torch.Generator().manual_seed(0)
# Two updates of two micro-batches: rows, and what the gradient of each is.
DRAWN = [[[0, 3, 5], [3, 7]], [[3, 5, 9], [0, 9]], [[1, 7], [3, 11]]]
PULLS = [[torch.randn(len(rows), WIDTH, dtype=torch.float64, generator=generator) for rows in one] for one in DRAWN]
START = torch.randn(CLASSES, WIDTH, dtype=torch.float64, generator=generator)
OTHER = torch.randn(4, dtype=torch.float64, generator=generator)


def by_hand(step_of, max_norm):
    """The weights after each update; ``step_of`` changes weight and state of a row in place."""
    weights, found = START.clone(), []
    states = [{} for _ in range(CLASSES)]
    for count, (rows_of, pulls_of) in enumerate(zip(DRAWN, PULLS, strict=True), 1):
        gradient = torch.zeros_like(weights)
        for rows, pulls in zip(rows_of, pulls_of, strict=True):
            for row, pull in zip(rows, pulls, strict=True):
                gradient[row] += pull / 2
        norm = math.sqrt(gradient.square().sum().item() + OTHER.square().sum().item())
        gradient *= min(1.0, max_norm / (norm + 1e-6))
        for row in sorted({row for rows in rows_of for row in rows}):
            step_of(weights[row], gradient[row], states[row], count)
        found.append(weights.clone())
    return found


def sgd(weight, gradient, state, count):
    state['momentum'] = 0.9 * state.get('momentum', 0) + gradient + DECAY * weight
    weight -= LR * state['momentum']


def adamw(weight, gradient, state, count):
    weight *= 1 - LR * DECAY
    state['first'] = 0.9 * state.get('first', 0) + 0.1 * gradient
    state['second'] = 0.99 * state.get('second', 0) + 0.01 * gradient.square()
    unbiased = state['first'] / (1 - 0.9**count)
    weight -= LR * unbiased / ((state['second'] / (1 - 0.99**count)).sqrt() + 1e-8)


def make(optimizer, max_norm, fused):
    weight, other = with_row_gradient(nn.Parameter(START.clone())), nn.Parameter(torch.zeros(4, dtype=torch.float64))
    settings = dict(SGD=dict(momentum=0.9), AdamW=dict(betas=(0.9, 0.99)))[optimizer]
    built = getattr(torch.optim, optimizer)([weight, other], lr=LR, weight_decay=DECAY, fused=fused, **settings)
    clip = None if math.isinf(max_norm) else dict(max_norm=max_norm)
    wrapper = ComposedOptimWrapper(built, clip_grad=clip, accumulative_counts=2)
    wrapper.initialize_count_status(nn.Module(), 0, 6)
    return wrapper, weight, other


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('max_norm', [math.inf, 0.5])
@pytest.mark.parametrize(('optimizer', 'step_of'), [('SGD', sgd), ('AdamW', adamw)])
def test_it_is_the_update_by_hand(optimizer, step_of, max_norm, fused):
    wrapper, weight, other = make(optimizer, max_norm, fused)
    found = []
    for number, (rows_of, pulls_of) in enumerate(zip(DRAWN, PULLS, strict=True)):
        for rows, pulls in zip(rows_of, pulls_of, strict=True):
            wrapper.update_params((gather_drawn(weight, torch.tensor(rows)) * pulls).sum() + (other * OTHER).sum())
        found.append(weight.detach().clone())
        assert wrapper.optimizer.param_groups[0]['params'][0] is weight
        assert number + 1 == wrapper.updates
    for own, expected in zip(found, by_hand(step_of, max_norm), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)
    (state,) = [state for param, state in wrapper.optimizer.state.items() if param is weight]
    tensors = [value for value in state.values() if torch.is_tensor(value) and value.dim()]
    assert all(value.shape == weight.shape for value in tensors)
    untouched = [2, 4, 6, 8, 10]
    assert all(not value[untouched].any() for value in tensors)
    assert torch.equal(weight.detach()[untouched], START[untouched])


@pytest.mark.parametrize('stop', [2, 3])
def test_a_resumed_one_goes_on_to_the_same_bits(stop):
    steps = [pair for rows, pulls in zip(DRAWN, PULLS, strict=True) for pair in zip(rows, pulls, strict=True)]

    def run(wrapper, weight, other, part):
        for rows, pulls in part:
            wrapper.update_params((gather_drawn(weight, torch.tensor(rows)) * pulls).sum() + (other * OTHER).sum())
        return copy.deepcopy(wrapper.state_dict()), weight.detach().clone(), other.detach().clone()

    straight = run(*make('AdamW', 0.5, True), steps)
    state, weight, other = run(*make('AdamW', 0.5, True), steps[:stop])
    wrapper, own, own_other = make('AdamW', 0.5, True)
    with torch.no_grad():
        own.copy_(weight), own_other.copy_(other)
    wrapper.load_state_dict(state)
    wrapper.initialize_count_status(nn.Module(), stop, 6)
    resumed = run(wrapper, own, own_other, steps[stop:])
    assert torch.equal(resumed[1], straight[1])
    assert torch.equal(resumed[2], straight[2])


def test_a_gradient_that_is_dense_has_the_rows_that_are_not_zero():
    """As a checkpoint has it that was written in the middle of an accumulation."""
    weight = with_row_gradient(nn.Parameter(torch.ones(4, 2)))
    optimizer = torch.optim.SGD([weight], lr=1.0, weight_decay=0.5)
    weight.grad = torch.zeros(4, 2)
    weight.grad[2, 1] = 1.0
    with updating_drawn_rows(optimizer):
        assert optimizer.param_groups[0]['params'][0].shape == (1, 2)
        optimizer.step()
    assert weight.tolist() == [[1, 1], [1, 1], [0.5, -0.5], [1, 1]]


@pytest.mark.parametrize(
    ('optimizer', 'stages', 'text'),
    [
        (torch.optim.Adafactor, None, 'expected an optimizer that updates each row by itself .*, got Adafactor'),
        (torch.optim.SGD, dict(sam=dict(type='SAM')), r'a second pass \(SAM, FriendlySAM\) ascends'),
    ],
)
def test_what_does_not_go_with_it_is_refused(optimizer, stages, text):
    weight = with_row_gradient(nn.Parameter(torch.ones(4, 2)))
    wrapper = ComposedOptimWrapper(optimizer([weight], lr=0.1), stages)
    model = nn.Module()
    model.weight = weight
    with pytest.raises(ValueError, match=text), wrapper.optim_context(model):
        pass


def test_other_optimizers_with_the_state_of_another_shape(monkeypatch):
    monkeypatch.setattr('hybridcls.distributed.drawn_rows._ROW_BY_ROW', ('Adafactor',))
    weight = with_row_gradient(nn.Parameter(torch.ones(4, 2)))
    wrapper = ComposedOptimWrapper(torch.optim.Adafactor([weight], lr=0.1))
    with pytest.raises(ValueError, match='expected a state shaped like the class weights, or a number'):
        wrapper.update_params(gather_drawn(weight, torch.tensor([1])).sum())


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('optimizer', OPTIMIZERS_OF)
def test_with_stages_it_is_the_loop_over_rows_and_goes_on_to_the_same_bits(optimizer, stage):
    check_drawn_rows(optimizer, stage, torch.device('cpu'))
