"""LowRankBilinearFusion: against its equation in plain tensors, and built from its config."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from hybridcls.engine import load_config
from hybridcls.registry import MODELS
from projects.example_project import LowRankBilinearFusion

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'bilinear_digits.py'


def test_the_equation():
    torch.manual_seed(0)
    neck = LowRankBilinearFusion(in_channels=(3, 2), fusion_dim=4, rank=5).double()
    image, tokens = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 6, 2).double()
    (embedding,) = neck((image, tokens))
    for b in range(2):
        pooled = [image[b].flatten(1).mean(1), tokens[b].mean(0)]
        product = torch.ones(5).double()
        for factor, vector in zip(neck.factors, pooled, strict=True):
            product *= torch.tanh(factor.weight @ vector + factor.bias)
        torch.testing.assert_close(embedding[b], neck.project.weight @ product + neck.project.bias)


def test_the_config_finds_it_and_channels_are_inferred():
    cfg = load_config(CONFIG)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        model = MODELS.build(cfg.model)
    assert isinstance(model.neck, LowRankBilinearFusion)
    assert model.neck.in_channels == model.backbone.out_channels
    model.eval()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(param.grad is not None for param in model.parameters())


def test_a_wrong_number():
    with pytest.raises(ValueError, match=r'expected rank in .*, got 0'):
        LowRankBilinearFusion(in_channels=(3, 2), rank=0)
