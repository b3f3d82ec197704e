import pytest
import torch
from torch import nn

from hybridcls.engine.optim.update.parameter_names import check_trainable, named_owners, parameters_of


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 2)  # a name that wrappers use too
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight = self.module.weight


class CheckpointWrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self._checkpoint_wrapped_module = module


def test_names_are_those_of_the_model_however_it_is_wrapped():
    net = Net()
    params = list(net.parameters())
    for wrapped in (net, nn.DataParallel(net), nn.DataParallel(CheckpointWrapper(net))):
        names, owners = named_owners(params, wrapped)
        assert names == ['module.weight', 'module.bias']
        assert owners == [net.module, net.module]


def test_a_parameter_that_is_not_found_has_no_place():
    names, owners = named_owners([nn.Parameter(torch.ones(1))], Net())
    assert (names, owners) == ([''], [None])
    assert named_owners(list(Net().parameters()), None) == (['', ''], [None, None])


def test_parameters_are_in_the_order_of_the_groups():
    net = Net()
    optimizer = torch.optim.SGD([dict(params=[net.module.bias]), dict(params=[net.module.weight])], lr=0.1)
    found = parameters_of(optimizer)
    assert found[0] is net.module.bias
    assert found[1] is net.module.weight


def test_something_must_be_trainable():
    params = list(Net().requires_grad_(False).parameters())
    with pytest.raises(ValueError, match='got 2 in the optimizer of which none does'):
        check_trainable('me', params)
    params[0].requires_grad_(True)
    check_trainable('me', params)
