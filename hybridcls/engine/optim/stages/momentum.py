"""Read the momentum that an optimizer keeps of each parameter."""

from collections.abc import Iterable

from torch import Tensor

from ..update.update import Update

__all__ = ['MOMENTA', 'momenta_of']

MOMENTA = ('momentum_buffer', 'exp_avg')  # of SGD and its kin; of Adam and its kin: the first moment


def momenta_of(update: Update, positions: Iterable[int]) -> dict[int, Tensor]:
    """Return the momenta of the parameters at some positions; parameters without momentum are left out."""
    states = {i: update.optimizer.state.get(update.params[i], {}) for i in positions}
    found = {i: next((s[name] for name in MOMENTA if isinstance(s.get(name), Tensor)), None) for i, s in states.items()}
    return {i: momentum for i, momentum in found.items() if momentum is not None}
