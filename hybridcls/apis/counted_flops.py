"""Count the operations of a call by torch's counter, attention included on every device."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ['counted_flops']


def counted_flops(run: Callable[[], Any]) -> int:
    """Count the operations of convolutions, matrix products and attention; a multiply-add counts as two.

    Attention is computed as two products meanwhile: torch's counter does not know its fused form on a CPU, and would
    count nothing for it.

    Args:
        run (Callable): Is called once, without gradients.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        run()
    return int(counter.get_total_flops())
