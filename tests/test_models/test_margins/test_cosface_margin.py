import pytest
import torch

from hybridcls.registry import MODELS


def test_equation():
    out = MODELS.build(dict(type='CosFace', margin=0.25))(torch.tensor([0.75, -1.0]), torch.ones(2), torch.zeros(2))
    assert out.tolist() == [0.5, -1.25]


def test_margin_can_be_set():
    margin = MODELS.build(dict(type='CosFace'))
    assert margin.margin == 0.35
    margin.margin = 0.0
    assert margin(torch.tensor([0.5]), torch.ones(1), torch.zeros(1)).tolist() == [0.5]


def test_wrong_margin_fails_when_built():
    with pytest.raises(ValueError, match=r'expected margin in .* got -1'):
        MODELS.build(dict(type='CosFace', margin=-1))
