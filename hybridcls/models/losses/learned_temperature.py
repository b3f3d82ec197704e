"""A learned temperature."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from hybridcls.checks import check_number

__all__ = ['LearnedTemperature']


class LearnedTemperature(nn.Module):
    r"""A temperature :math:`\tau = e^p` with a trained parameter p, within bounds.

    The logarithm keeps it positive and makes equal steps equal factors, as in `CLIP <https://arxiv.org/abs/2103.00020>`_
    (which learns :math:`-p` and cuts the parameter itself after each step). Here the value is cut and the parameter
    feels at a bound only what would lead it back, so that it is never caught there.

    The parameter should have no weight decay, which would draw :math:`\tau` towards 1.
    ``HybridOptimWrapperConstructor`` gives it none; with mmengine's constructor say
    ``paramwise_cfg=dict(custom_keys={'log_temperature': dict(decay_mult=0.)})``.

    Args:
        start (float): :math:`\tau` at the start, within the bounds.
        low (float): The lowest value, above 0. Defaults to 0.01.
        high (float): The highest value. Defaults to 1.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> temperature = LearnedTemperature(0.1)
        >>> temperature()
        tensor(0.1000, grad_fn=<ExpBackward0>)
    """

    def __init__(self, start: float, low: float = 0.01, high: float = 1.0) -> None:
        super().__init__()
        check_number('LearnedTemperature', 'low', low, 0, low_open=True)
        check_number('LearnedTemperature', 'high', high, low, low_open=True)
        check_number(
            'LearnedTemperature',
            'temperature',
            start,
            low,
            high,
            advice='Widen temperature_range=(low, high), or start within it.',
        )
        self.low, self.high = low, high
        self.log_temperature = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """Return the temperature, a scalar."""
        return _Cut.apply(self.log_temperature, math.log(self.low), math.log(self.high)).exp()

    def extra_repr(self) -> str:
        """Return the bounds and the present value, for ``print(model)``."""
        return f'low={self.low}, high={self.high}, now={float(self.log_temperature.detach().exp()):.4g}'


class _Cut(torch.autograd.Function):
    """Clamp whose gradient at a bound passes if it leads back inside."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward((value <= low).to(value.dtype) - (value >= high).to(value.dtype))
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (side,) = ctx.saved_tensors  # 1 below, -1 above; a step goes against the gradient
        return grad.masked_fill(side * grad > 0, 0), None, None
