import math

import pytest
import torch
from fidelity_checks import assert_faithful

from hybridcls.functional.margins.adaptive_margin import (
    adaptive_margin_on_target,
    moved_norm_statistics,
    norm_moments,
    norm_scaler,
)
from hybridcls.functional.margins.angular_margin import angular_margin_on_target

ANGLES = [0.05, 0.8, 1.5, 2.0, 2.6, 2.7, 3.1]


def by_angles(cosine, scaler, margin, clip_angle=True):
    """The formula as the paper writes it, over the angle itself, in float64."""
    theta = cosine.double().acos() - margin * scaler.double()
    if clip_angle:
        theta = theta.clamp(1e-3, math.pi - 1e-3)
    return theta.cos() - margin * scaler.double() - margin


def moved(norms, mean, std, t_alpha):
    return moved_norm_statistics(norm_moments(norms).unsqueeze(0), mean, std, t_alpha)


def test_cvlface_numbers():
    assert_faithful('AdaFace on angles')


@pytest.mark.parametrize('clip_angle', [True, False])
@pytest.mark.parametrize('scaler', [-1.0, -0.3, 0.0, 0.3, 1.0])
def test_formula(scaler, clip_angle):
    cosine = torch.linspace(-1, 1, 41)
    scaler = torch.full_like(cosine, scaler)
    out = adaptive_margin_on_target(cosine, scaler, 0.4, clip_angle=clip_angle)
    torch.testing.assert_close(out, by_angles(cosine, scaler, 0.4, clip_angle).float(), rtol=1e-6, atol=1e-6)


def test_its_corners_are_arcface_and_cosface():
    cosine = torch.tensor([0.1, 0.5])
    torch.testing.assert_close(
        adaptive_margin_on_target(cosine, -torch.ones(2), 0.4), angular_margin_on_target(cosine, 0.4)
    )
    torch.testing.assert_close(adaptive_margin_on_target(cosine, torch.zeros(2), 0.4), cosine - 0.4)


@pytest.mark.parametrize('clip_angle', [True, False])
def test_gradient_is_the_derivative_and_leaves_the_norms_alone(clip_angle):
    cosine = torch.tensor(ANGLES, dtype=torch.float64).cos().requires_grad_()
    scaler = torch.tensor([-1.0, 0.5, 0.2, 0.0, -0.3, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda c: adaptive_margin_on_target(c, scaler.detach(), 0.4, clip_angle=clip_angle), cosine
    )
    adaptive_margin_on_target(cosine, scaler, 0.4).sum().backward()
    assert scaler.grad is None


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('clip_angle', [True, False])
@pytest.mark.parametrize('edge', [-1.0, 1.0])
def test_finite_at_the_edges(edge, clip_angle, dtype):
    cosine = torch.full((3,), edge, dtype=dtype, requires_grad=True)
    out = adaptive_margin_on_target(cosine, torch.tensor([-1.0, 0.0, 1.0]), 0.4, clip_angle=clip_angle)
    out.sum().backward()
    assert out.isfinite().all()
    assert cosine.grad.isfinite().all()


def test_scaler_clips_norms_and_itself():
    norms = torch.tensor([0.0, 1e-3, 30.0, 100.0, 1e6], requires_grad=True)
    out = norm_scaler(norms, torch.tensor(30.0), torch.tensor(40.0), h=0.5)
    expected = ((torch.tensor([1e-3, 1e-3, 30.0, 100.0, 100.0]) - 30) / 40.001 * 0.5).clamp(-1, 1)
    torch.testing.assert_close(out, expected)
    assert not out.requires_grad
    # A standard deviation of nothing: the guard in the denominator, then the clip.
    assert norm_scaler(torch.tensor([10.0, 30.0, 50.0]), torch.tensor(30.0), torch.tensor(0.0)).tolist() == [
        -1.0,
        0.0,
        1.0,
    ]


def test_statistics_are_the_ema_of_the_unbiased_ones():
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    expected = [20.0, 100.0]
    for _ in range(4):
        norms = 50 * torch.rand(7, generator=generator)
        mean, std = moved(norms, mean, std, 0.3)
        expected = [
            0.3 * norms.double().mean().item() + 0.7 * expected[0],
            0.3 * norms.double().std().item() + 0.7 * expected[1],
        ]
    torch.testing.assert_close([mean.item(), std.item()], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_norms_are_float32(dtype):
    mean, std = torch.tensor(0.0), torch.tensor(0.0)
    mean, std = moved(torch.tensor([10.0, 12.0, 14.0] * 1000, dtype=dtype), mean, std, 1.0)
    torch.testing.assert_close(mean, torch.tensor(12.0))
    torch.testing.assert_close(std, torch.tensor([10.0, 12.0, 14.0] * 1000).std())


def test_moments_of_processes_are_those_of_all_norms():
    generator = torch.Generator().manual_seed(1)
    parts = [30 + torch.randn(number, generator=generator) for number in (5, 1, 0, 8)]
    start = torch.tensor(20.0), torch.tensor(100.0)
    merged = moved_norm_statistics(torch.stack([norm_moments(part) for part in parts]), *start, 0.3)
    torch.testing.assert_close(merged, moved(torch.cat(parts), *start, 0.3))


def test_a_batch_of_one_moves_the_mean_alone():
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    mean, std = moved(torch.tensor([10.0]), mean, std, 0.5)
    assert (mean.item(), std.item()) == (15.0, 100.0)


def test_norms_that_are_not_finite_are_left_out():
    mean, std = torch.tensor(20.0), torch.tensor(100.0)
    mean, std = moved(torch.tensor([math.nan, 10.0, math.inf, 14.0]), mean, std, 1.0)
    torch.testing.assert_close([mean.item(), std.item()], [12.0, math.sqrt(8.0)])
    mean, std = moved(torch.tensor([math.nan]), mean, std, 1.0)
    mean, std = moved(torch.zeros(0), mean, std, 1.0)
    torch.testing.assert_close([mean.item(), std.item()], [12.0, math.sqrt(8.0)])


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match=r'expected margin in .* got 28'):
        adaptive_margin_on_target(torch.zeros(1), torch.zeros(1), margin=28)
    with pytest.raises(ValueError, match='norm scaler'):
        adaptive_margin_on_target(torch.zeros(2), torch.zeros(2, 1))
