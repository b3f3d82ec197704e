import math

import pytest
import torch
from fidelity_checks import assert_faithful

from hybridcls.functional.margins.angular_margin import (
    BEYOND_PI,
    GRADIENTS,
    additive_angular_margin,
    angular_margin_on_target,
)

ANGLES = [0.05, 0.8, 1.5, 2.0, 2.6, 2.7, 3.1]


def rotated_cosine(theta, margin):
    """cos(theta + margin) from a vector turned by hand: no acos on this road."""
    x, y = math.cos(theta), math.sin(theta)
    return x * math.cos(margin) - y * math.sin(margin)


@pytest.mark.parametrize('theta', [0.1, 1.0, 2.0])  # all below pi - margin
def test_margin_turns_the_target_class_alone(theta):
    cosine = torch.tensor([[0.2, math.cos(theta), -0.7]])
    before = cosine.clone()
    out = additive_angular_margin(cosine, torch.tensor([1]), margin=0.5)
    torch.testing.assert_close(out, torch.tensor([[0.2, rotated_cosine(theta, 0.5), -0.7]]))
    torch.testing.assert_close(cosine, before, rtol=0, atol=0)


@pytest.mark.parametrize('case', ['ArcFace on angles', 'ArcFace, easy margin', 'ArcFaceHead'])
def test_insightface_numbers(case):
    assert_faithful(case)


@pytest.mark.parametrize(
    ('beyond_pi', 'expected'),
    [
        ('linear', lambda theta, m: math.cos(theta) - m * math.sin(m)),
        ('easy', lambda theta, m: math.cos(theta)),
        ('clip', lambda theta, m: -1.0),
        ('wrap', rotated_cosine),
    ],
)
@pytest.mark.parametrize('theta', [2.7, 3.1])
def test_past_pi_each_convention_does_what_its_name_says(beyond_pi, expected, theta):
    cosine = torch.tensor([math.cos(theta)], dtype=torch.float64)
    out = angular_margin_on_target(cosine, 0.5, beyond_pi)
    torch.testing.assert_close(out, torch.tensor([expected(theta, 0.5)], dtype=torch.float64))


@pytest.mark.parametrize('margin', [0.1, 0.5, 1.0])
def test_default_falls_all_the_way_to_pi(margin):
    cosine = torch.linspace(0, math.pi, 1001, dtype=torch.float64).cos()
    assert (angular_margin_on_target(cosine, margin).diff() < 0).all()


@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
def test_gradient_is_the_derivative(beyond_pi):
    cosine = torch.tensor(ANGLES, dtype=torch.float64).cos().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: angular_margin_on_target(c, 0.5, beyond_pi), cosine)
    assert torch.autograd.gradgradcheck(lambda c: angular_margin_on_target(c, 0.5, beyond_pi), cosine)


@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
def test_straight_through_keeps_the_value_and_has_slope_one(beyond_pi):
    cosine = torch.tensor(ANGLES).cos().requires_grad_()
    out = angular_margin_on_target(cosine, 0.5, beyond_pi, 'straight_through')
    out.sum().backward()
    torch.testing.assert_close(out, angular_margin_on_target(cosine, 0.5, beyond_pi), rtol=0, atol=0)
    torch.testing.assert_close(cosine.grad, torch.ones_like(cosine), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('gradient', GRADIENTS)
@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
@pytest.mark.parametrize('edge', [-1.0, 1.0])
def test_value_and_gradient_are_finite_where_acos_is_not(edge, beyond_pi, gradient, dtype):
    cosine = torch.full((1, 2), edge, dtype=dtype, requires_grad=True)
    out = additive_angular_margin(cosine, torch.tensor([0]), 0.5, beyond_pi, gradient)
    out.sum().backward()
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert cosine.grad.isfinite().all()


def test_values_at_the_edges_are_exact():
    out = angular_margin_on_target(torch.tensor([1.0, -1.0]), 0.5)
    torch.testing.assert_close(out, torch.tensor([math.cos(0.5), -1 - 0.5 * math.sin(0.5)]))


def test_rounding_past_one_is_taken_as_one():
    cosine = torch.tensor([1 + 1e-6, -1 - 1e-6], requires_grad=True)
    out = angular_margin_on_target(cosine, 0.5, 'wrap')
    out.sum().backward()
    torch.testing.assert_close(out.detach(), torch.tensor([math.cos(0.5), -math.cos(0.5)]), rtol=1e-5, atol=1e-5)
    assert cosine.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    cosine = torch.tensor([0.3, -0.6], dtype=dtype)
    out = angular_margin_on_target(cosine, 0.5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, angular_margin_on_target(cosine.double(), 0.5).float())


def test_margin_zero_changes_nothing():
    cosine = torch.linspace(-1, 1, 11)
    torch.testing.assert_close(angular_margin_on_target(cosine, 0.0), cosine, rtol=0, atol=0)


def test_one_class_and_no_rows():
    assert additive_angular_margin(torch.tensor([[0.5]]), torch.tensor([0])).shape == (1, 1)
    assert additive_angular_margin(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


def test_degrees_get_advice():
    with pytest.raises(ValueError, match=r'expected margin in \[0, 3\.14.*, got 28\.6\..*math\.radians\(28\.6\)'):
        additive_angular_margin(torch.zeros(1, 2), torch.tensor([0]), margin=28.6)


def test_wrong_switches_and_shapes_are_named():
    with pytest.raises(ValueError, match=r"expected beyond_pi to be one of .*, got 'lineal'.* Did you mean 'linear'"):
        angular_margin_on_target(torch.zeros(1), 0.5, 'lineal')
    with pytest.raises(ValueError, match='expected gradient to be one of'):
        angular_margin_on_target(torch.zeros(1), 0.5, gradient='exact')
    with pytest.raises(ValueError, match=r'expected cosines \(B, C\) and labels'):
        additive_angular_margin(torch.zeros(2, 2), torch.tensor([0]))
