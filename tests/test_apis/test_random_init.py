"""Parameters are not drawn, everything else is."""

import torch
from torch import nn

from hybridcls.apis.random_init import without_random_init


def test_no_random_number_is_drawn_for_parameters():
    before = torch.random.get_rng_state()
    with without_random_init():
        layer = nn.Linear(20, 30)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(layer.bias)
    assert torch.equal(torch.random.get_rng_state(), before)
    with without_random_init():
        table = torch.empty(1000).normal_()
    assert 0.8 < table.std() < 1.2
    assert not torch.equal(torch.random.get_rng_state(), before)


def test_it_can_be_off():
    with without_random_init(active=False):
        assert nn.Linear(100, 100).weight.std() > 0.01
