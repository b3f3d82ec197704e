"""The recorded call: what is repeated, and when it is refused."""

import pytest
import torch
from torch import nn

from hybridcls.replay.forward_call import ForwardCall


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, noise=0.0):
        return self.factor * x + noise * torch.rand(())


def record(model, *args, **kwargs):
    with ForwardCall(model, remember_input=True) as call:
        model(*args, **kwargs)
    return call


def test_arguments_and_random_numbers_are_those_of_the_first_call_and_weights_those_of_now():
    model = Doubling()
    torch.manual_seed(0)
    call = record(model, torch.tensor(3.0), noise=1.0)
    drawn = call.output - 6
    model.factor.data.fill_(10.0)
    state = torch.get_rng_state()
    torch.testing.assert_close(call.replay(same_randomness=True), 30 + drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert call.replay(same_randomness=False) != 30 + drawn
    assert not torch.equal(torch.get_rng_state(), state)


def test_a_replay_is_no_call():
    model = Doubling()
    call = record(model, torch.ones(1))
    model(torch.zeros(1))
    call.replay(True)
    assert call.calls == 1
    assert call.output == 2
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(('calls', 'text'), [(0, 'Doubling was not called'), (2, 'Doubling was called 2 times')])
def test_anything_but_one_call_is_refused(calls, text):
    model = Doubling()
    with ForwardCall(model, remember_input=True) as call:
        for _ in range(calls):
            model(torch.ones(1))
    with pytest.raises(RuntimeError, match=text):
        call.replay(True)


def test_an_input_that_was_changed_since_is_refused():
    batch = dict(x=torch.ones(2, 3))
    call = record(Doubling(), **batch)
    batch['x'].add_(1)
    with pytest.raises(RuntimeError, match=r'Doubling changed its input in place \(a tensor of shape \(2, 3\)\)'):
        call.replay(True)


def test_without_remembering_the_output_alone_is_kept():
    model = Doubling()
    with ForwardCall(model, remember_input=False) as call:
        model(torch.ones(1))
    assert call.output == 2
    with pytest.raises(RuntimeError):
        call.replay(True)
