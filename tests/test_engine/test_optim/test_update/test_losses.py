"""The loss that a training step follows, found in what a model returns."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from hybridcls.engine.optim.update.losses import check_same_loss, losses_of, total_loss

OUTPUT = dict(loss_a=torch.tensor([1.0, 3.0]), b=torch.tensor(5.0), loss_list=[torch.tensor(1.0), torch.tensor(2.0)])


class Wrapped(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


class Doubled(BaseModel):
    def forward(self, inputs, data_samples=None, mode='loss'):
        return OUTPUT

    def parse_losses(self, losses):
        loss, log = super().parse_losses(losses)
        return 2 * loss, log


def test_named_losses_are_means_of_tensors():
    assert losses_of(OUTPUT) == dict(loss_a=2, b=5, loss_list=3)
    assert losses_of(torch.tensor(4.0)) == dict(loss=4)
    assert losses_of([torch.tensor(4.0)]) == {}
    assert losses_of(dict(name='x', loss=torch.tensor(1.0))) == dict(loss=1)


def test_the_total_is_what_the_model_itself_or_the_wrapped_one_adds_up():
    assert total_loss(nn.Linear(1, 1), torch.tensor(4.0)) == 4
    assert total_loss(Doubled(), OUTPUT) == 2 * (2 + 3)
    assert total_loss(Wrapped(Doubled()), OUTPUT) == 2 * (2 + 3)
    assert total_loss(nn.Linear(1, 1), dict(loss_a=torch.ones(2), accuracy=torch.ones(2))) == 1


@pytest.mark.parametrize('output', [torch.ones(2), dict(accuracy=torch.ones(1)), None])
def test_an_output_without_a_loss_is_refused(output):
    with pytest.raises(TypeError, match='expected Linear to return a dict of losses, or the loss itself'):
        total_loss(nn.Linear(1, 1), output)


def test_another_loss_than_that_of_the_output_is_refused():
    check_same_loss('me', Doubled(), OUTPUT, torch.tensor(10.001))
    check_same_loss('me', Doubled(), dict(loss=torch.tensor(torch.nan)), torch.tensor(torch.nan))
    with pytest.raises(ValueError, match=r'^me: expected update_params to get the loss 10, .* got 5: a second pass'):
        check_same_loss('me', Doubled(), OUTPUT, torch.tensor(5.0))
