"""Read the momentum that an optimizer keeps of each parameter."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ['MOMENTA', 'momenta_of']

MOMENTA = ('momentum_buffer', 'exp_avg')  # of SGD and its kin; of Adam and its kin: the first moment


def momenta_of(optimizer: torch.optim.Optimizer, params: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return the momenta of parameters, by the given positions; parameters without momentum are left out."""
    states = {i: optimizer.state.get(param, {}) for i, param in params.items()}
    found = {i: next((s[name] for name in MOMENTA if isinstance(s.get(name), Tensor)), None) for i, s in states.items()}
    return {i: momentum for i, momentum in found.items() if momentum is not None}
