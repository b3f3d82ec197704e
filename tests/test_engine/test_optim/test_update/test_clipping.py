import math

import pytest
import torch

from hybridcls.distributed.layouts import Shards
from hybridcls.engine.optim.update.clipping import check_clip_grad, clip_pieces


def with_gradient(gradient):
    param = torch.nn.Parameter(torch.zeros_like(gradient))
    param.grad = gradient
    return param


@pytest.mark.parametrize('norm_type', [2.0, 1.0, math.inf])
@pytest.mark.parametrize('max_norm', [0.5, 100.0])
def test_in_one_process_it_is_the_function_of_torch(norm_type, max_norm):
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 2), (4,))]
    for i, param in enumerate(params):
        param.grad = torch.linspace(-1, 2, param.numel()).view(param.shape) * (i + 1)
    # A process may hold nothing of a parameter.
    pieces = [with_gradient(gradient) for gradient in [*(param.grad.clone() for param in params), torch.zeros(0)]]
    expected = torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
    torch.testing.assert_close(clip_pieces(pieces, Shards(), max_norm, norm_type), expected)
    torch.testing.assert_close([piece.grad for piece in pieces[:2]], [param.grad for param in params])


def test_a_norm_that_is_not_finite_is_an_error_on_request():
    params = [with_gradient(torch.tensor([1.0, math.inf]))]
    clip_pieces(params, Shards(), 1.0)
    with pytest.raises(RuntimeError, match='the norm of the gradient is'):
        clip_pieces(params, Shards(), 1.0, error_if_nonfinite=True)
    assert clip_pieces([torch.nn.Parameter(torch.ones(1))], Shards(), 1.0) == 0  # without gradient


@pytest.mark.parametrize(
    ('clip_grad', 'error', 'text'),
    [
        (5.0, TypeError, r'expected clip_grad to be a dict such as dict\(max_norm=5.0\), or None, got 5.0'),
        ({}, TypeError, r'or None, got \{\}'),
        (dict(type='mean', max_norm=1.0), ValueError, "expected clip_grad.type to be 'norm' or 'value', got 'mean'"),
        (dict(type='value', max_norm=1.0), TypeError, "unknown key 'max_norm'"),
        (dict(norm_type=2.0), ValueError, 'expected max_norm in clip_grad'),
        (dict(max_norm=-1.0), ValueError, r'expected clip_grad.max_norm in \[0, inf\), got -1.0'),
    ],
    ids=str,
)
def test_settings_that_cannot_be(clip_grad, error, text):
    with pytest.raises(error, match=text):
        check_clip_grad('me', clip_grad)


def test_the_settings_are_copied():
    given = dict(type='value', clip_value=1.0)
    assert check_clip_grad('me', given) == given
    assert check_clip_grad('me', given) is not given
    assert check_clip_grad('me', None) is None
