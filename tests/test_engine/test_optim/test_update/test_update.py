"""What a stage sees of an update."""

import pytest
import torch
from mmengine.logging import MessageHub

from hybridcls.engine.optim import Update


def make_update(**kwargs):
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    params[1].grad = torch.full((2,), 3.0)
    return Update(torch.optim.SGD(params, lr=0.1), params, ['a', 'b', 'c'], [None] * 3, **kwargs)


def test_positions_with_a_gradient():
    update = make_update()
    assert update.with_gradient() == [1]
    assert update.gradients([1])[0] is update.params[1].grad


def test_a_gradient_is_recomputed_in_a_second_pass_only():
    class Replayed:
        def recompute_gradient(self, same_randomness):
            return torch.tensor(2.0 if same_randomness else 5.0), not same_randomness

    update = make_update()
    with pytest.raises(RuntimeError, match='expected needs_second_pass of the stage to return True'):
        update.recompute_gradient()
    update.micro_batch = Replayed()
    assert (update.recompute_gradient(), update.is_dropped) == (2, False)
    assert (update.recompute_gradient(same_randomness=False), update.is_dropped) == (5, True)


def test_numbers_are_logged_beside_the_losses_of_their_own_run():
    first = MessageHub.get_instance('test_update_first')
    MessageHub.get_instance('test_update_second')
    make_update(message_hub=first).log('sam/x', 4.0)
    assert first.get_scalar('train/sam/x').current() == 4
    make_update().log('sam/x', 5.0)  # without a hub it goes nowhere
    assert first.get_scalar('train/sam/x').current() == 4


def test_the_epoch_is_that_of_the_current_run():
    hub = MessageHub.get_instance('test_update_epoch')
    assert make_update().epoch is None
    hub.update_info('epoch', 3)
    assert make_update().epoch == 3
