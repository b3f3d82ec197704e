"""Shapes that modules give, found without computing."""

import pytest
import torch
from torch import nn

from hybridcls.models.building.shape_probe import channels_of, probe_output, probe_shapes


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 2, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.conv(x), self.drop(self.norm(self.conv(x))).flatten(2).transpose(1, 2)


def test_nothing_of_the_module_changes():
    module = Two()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    a_map, tokens = probe_output(module, 32, 16)
    torch.testing.assert_close(torch.rand(1), expected)  # no random number was drawn
    assert (a_map.shape, tokens.shape) == ((1, 8, 16, 8), (1, 128, 8))
    assert a_map.is_meta
    assert channels_of(a_map) == channels_of(tokens) == channels_of(tokens[:, 0]) == 8
    assert module.training
    assert module.drop.training
    assert not module.norm.training
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_what_the_module_raises_is_raised_and_its_mode_restored():
    module = Two()
    with pytest.raises(RuntimeError, match=r'(?i)channel'):
        probe_output(module, 32, 16, channels=5)
    assert module.training


class OfNonzeros(Two):
    def forward(self, x):
        return super().forward(x)[0] + torch.nonzero(torch.ones(2)).sum()


class Joined(nn.Module):
    def forward(self, features):
        a_map, tokens = features
        return torch.cat([a_map.mean((2, 3)), tokens.mean(1)], 1)


def test_an_operation_without_a_meta_form_is_computed():
    module = OfNonzeros()
    assert probe_output(module, 32, 16).shape == (1, 8, 16, 8)
    assert module.training


def test_a_module_that_takes_a_tuple():
    features = probe_output(Two(), 32, 16)
    assert probe_shapes(Joined(), features).shape == (1, 16)
