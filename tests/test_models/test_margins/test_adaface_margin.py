import math

import pytest
import torch

from hybridcls.registry import MODELS


def build(**keys):
    return MODELS.build(dict(type='AdaFace', **keys))


def test_statistics_move_before_they_are_used():
    margin = build(t_alpha=0.5)
    norms = torch.tensor([10.0, 12.0, 14.0])
    out = margin(torch.zeros(3), norms, torch.zeros(3, dtype=torch.int64))
    assert margin.norm_mean.item() == 16
    assert margin.norm_std.item() == 51
    scaler = ((norms - 16) / 51.001 * 0.333).double()
    theta = math.pi / 2 - 0.4 * scaler
    torch.testing.assert_close(out, (theta.cos() - 0.4 * scaler - 0.4).float())
    assert {name: value.item() for name, value in margin.log_scalars().items()} == dict(norm_mean=16, norm_std=51)


def test_nothing_moves_in_eval():
    margin = build().eval()
    margin(torch.zeros(2), torch.tensor([1.0, 90.0]), torch.zeros(2))
    assert (margin.norm_mean.item(), margin.norm_std.item()) == (20, 100)


def test_a_batch_of_one_poisons_nothing():
    margin = build()
    for _ in range(3):
        out = margin(torch.zeros(1), torch.tensor([5.0]), torch.zeros(1))
    assert out.isfinite().all()
    assert margin.norm_mean.item() == pytest.approx(20 * 0.99**3 + 5 * (1 - 0.99**3))
    assert margin.norm_std.item() == 100


def test_statistics_are_saved():
    margin = build(t_alpha=1.0)
    margin(torch.zeros(2), torch.tensor([1.0, 3.0]), torch.zeros(2))
    other = build()
    other.load_state_dict(margin.state_dict())
    assert other.norm_mean.item() == 2
    assert other.norm_std.item() == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize('keys', [dict(h=-1), dict(t_alpha=1.5), dict(margin=30), dict(gradient='official')])
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=name):
        build(**keys)
