"""Gradients of a half-done update; several processes are in test_two_processes.py."""

import torch

from hybridcls.engine.optim.update.accumulated_gradients import accumulated_gradients, gather_gradients, own_gradients

PRINTS = 'hybridcls.engine.optim.update.accumulated_gradients.print_log'


def params_with_gradient():
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    params[0].grad, params[2].grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    return params


def test_one_process_has_all_of_them():
    params = params_with_gradient()
    found = accumulated_gradients('me', params, accumulates_alone=False, gathered=None)
    assert found.keys() == {0}
    assert found[0].keys() == {0, 2}
    assert found[0][2] is params[2].grad
    torch.testing.assert_close(gather_gradients(params), {**found, 'whole': {}})
    torch.testing.assert_close(own_gradients(found), found[0])


def test_of_another_number_of_processes_it_is_the_mean_of_those_that_have_one():
    one, two = torch.tensor([2.0]), torch.tensor([4.0])
    found = own_gradients({0: {0: one, 1: one}, 1: {0: two}, 'whole': {5: two}})
    assert {position: float(value) for position, value in found.items()} == {0: 3.0, 1: 1.0, 5: 4.0}


def test_gradients_that_cannot_be_saved_are_told(monkeypatch):
    said = []
    monkeypatch.setattr(PRINTS, lambda text, *_, **__: said.append(text))
    assert accumulated_gradients('me', params_with_gradient(), accumulates_alone=True, gathered=None) == {}
    assert 'me: this checkpoint is written in the middle of an accumulation' in said.pop()
    gathered = {0: {0: torch.ones(2)}}
    assert accumulated_gradients('me', [], accumulates_alone=True, gathered=gathered) is gathered
    flat = torch.nn.Parameter(torch.ones(2))
    unsharded = torch.nn.Parameter(torch.ones(4))
    unsharded.grad = torch.ones(4)
    unsharded.data = flat.data  # as FSDP1 leaves it between micro-batches
    assert accumulated_gradients('me', [unsharded], accumulates_alone=False, gathered=None) == {}
    assert 'FSDP holds unsharded' in said.pop()
