import math

import pytest
import torch

from hybridcls.functional import additive_cosine_margin_on_target, angular_margin_on_target, combined_margin_on_target
from hybridcls.functional.margins.angular_margin import BEYOND_PI, GRADIENTS

ANGLES = [0.05, 0.8, 1.5, 2.0, 2.6, 2.7, 3.1]
# deepinsight/insightface, recognition/arcface_torch/losses.py, class CombinedMarginLoss at eca1d9a6, (m1, m2, m3) =
# (1, 0.5, 0): the logits are those of cos(theta + m2), and autograd sees the identity, since arccos and cos are taken
# in place under no_grad.


def cosines(angles=ANGLES, dtype=torch.float64):
    return torch.tensor(angles, dtype=torch.float64).cos().to(dtype).requires_grad_()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equation_below_pi(dtype):
    out = combined_margin_on_target(cosines([0.05, 0.8, 1.5, 2.0], dtype), 1.2, 0.3, 0.1)
    expected = [math.cos(1.2 * angle + 0.3) - 0.1 for angle in (0.05, 0.8, 1.5, 2.0)]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64).to(dtype))


@pytest.mark.parametrize('gradient', GRADIENTS)
@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
def test_its_three_parts_are_the_three_margins(beyond_pi, gradient):
    for keys, reference in [
        (dict(m2=0.5, m3=0.0), lambda c: angular_margin_on_target(c, 0.5, beyond_pi, gradient)),
        (dict(m2=0.0, m3=0.35), lambda c: c - 0.35),
    ]:
        own, other = cosines(), cosines()
        out = combined_margin_on_target(own, 1.0, beyond_pi=beyond_pi, gradient=gradient, **keys)
        expected = reference(other)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(torch.autograd.grad(out.sum(), own), torch.autograd.grad(expected.sum(), other))


def test_insightface_form():
    cosine = cosines(dtype=torch.float32)
    out = combined_margin_on_target(cosine, 1.0, 0.5, 0.0, beyond_pi='wrap', gradient='straight_through')
    out.sum().backward()
    torch.testing.assert_close(out.detach(), torch.tensor([math.cos(angle + 0.5) for angle in ANGLES]))
    torch.testing.assert_close(cosine.grad, torch.ones(len(ANGLES)))


@pytest.mark.parametrize(
    ('beyond_pi', 'expected'),
    [
        ('linear', lambda theta: math.cos(theta) - math.cos((math.pi - 0.3) / 1.5) - 1),
        ('easy', math.cos),
        ('clip', lambda theta: -1.0),
        ('wrap', lambda theta: math.cos(1.5 * theta + 0.3)),
    ],
)
@pytest.mark.parametrize('theta', [2.0, 3.1])  # turned to pi at 1.894
def test_past_pi_each_convention_does_what_its_name_says(beyond_pi, expected, theta):
    out = combined_margin_on_target(cosines([theta]), 1.5, 0.3, 0.1, beyond_pi)
    torch.testing.assert_close(out, torch.tensor([expected(theta) - 0.1], dtype=torch.float64))


@pytest.mark.parametrize('m1', [1.35, 2.0, 4.0])
def test_default_falls_all_the_way_without_a_step(m1):
    out = combined_margin_on_target(torch.linspace(0, math.pi, 3001, dtype=torch.float64).cos(), m1, 0.2, 0.0)
    assert (out.diff() < 0).all()
    assert out.diff().abs().max() < 2e-3 * m1


@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
def test_gradient_is_the_derivative(beyond_pi):
    assert torch.autograd.gradcheck(lambda c: combined_margin_on_target(c, 1.4, 0.3, 0.1, beyond_pi), cosines())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize('gradient', GRADIENTS)
@pytest.mark.parametrize('beyond_pi', BEYOND_PI)
def test_finite_at_the_edges(beyond_pi, gradient, dtype):
    cosine = torch.tensor([-1.0, 1.0, 1 + 1e-6], dtype=dtype, requires_grad=True)
    out = combined_margin_on_target(cosine, 1.35, 0.4, 0.1, beyond_pi, gradient)
    out.sum().backward()
    assert out.isfinite().all()
    assert cosine.grad.isfinite().all()


def test_one_margin_a_row():
    margins = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    for function in [lambda c, m: combined_margin_on_target(c, 1.3, m, 0.1), additive_cosine_margin_on_target]:
        out = function(cosines(), margins)
        expected = torch.cat(
            [
                function(cosines([angle]), round(margin, 1))
                for angle, margin in zip(ANGLES, margins.tolist(), strict=True)
            ]
        )
        torch.testing.assert_close(out, expected)
    with pytest.raises(ValueError, match=r'a margin for each cosine, \(7,\), got \(2,\)'):
        combined_margin_on_target(cosines(), 1.0, margins[:2])


def test_cosine_margin():
    out = additive_cosine_margin_on_target(torch.tensor([0.5], dtype=torch.bfloat16), 0.35)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([0.15]))


@pytest.mark.parametrize(
    'keys', [dict(m1=0.5), dict(m2=28.6), dict(m3=-0.1), dict(beyond_pi='lineal'), dict(gradient='exact')]
)
def test_wrong_settings_are_named(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'combined_margin: expected {name} '):
        combined_margin_on_target(torch.zeros(1), **keys)
