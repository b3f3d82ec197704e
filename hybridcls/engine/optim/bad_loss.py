"""What happens when a loss is not a number."""
import logging
from typing import Optional

import torch
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.checks import check_choice, check_number

__all__ = ['BadLossError', 'BadLossGuard']


class BadLossError(FloatingPointError):
    """A loss was NaN or infinite. The weights are those of the last good update."""


class BadLossGuard:
    """Looks at each loss, before anything is done to the weights.

    Args:
        who (str): Who speaks in errors.
        action (str): ``'stop'``: raise; ``'skip'``: drop the update that the loss belongs to, and go on; ``'ignore'``:
            do not look (no synchronisation with the device, no communication).
        most (int): So many updates in a row may be dropped; the next one stops.
    """

    def __init__(self, who: str, action: str, most: int) -> None:
        check_choice(who, 'bad_loss', action, ['stop', 'skip', 'ignore'])
        check_number(who, 'most_bad_losses', most, 1, integer=True)
        self.who = who
        self.action = action
        self.most = most
        self.dropped_in_a_row = 0

    def is_bad(self, loss: Tensor) -> bool:
        """Whether the loss of any process is not finite; all processes get the same answer."""
        if self.action == 'ignore':
            return False
        bad = ~torch.isfinite(loss.detach()).all()
        if torch.distributed.is_available() and torch.distributed.is_initialized() \
                and torch.distributed.get_world_size() > 1:
            # One process must not leave the others waiting in the next collective call.
            bad = bad.to(torch.int32)
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        return bool(bad)

    def handle(self, loss: Tensor, losses: dict[str, Tensor], iteration: int, place: str = '') -> None:
        """Raise, or say that the update is dropped.

        Args:
            loss (Tensor): The total loss.
            losses (dict[str, Tensor]): The losses it is made of, by name, as far as they are known.
            iteration (int): Iteration, from 1 as logs count.
            place (str): Where it happened, if not at the weights themselves.

        Raises:
            BadLossError: If the action is to stop, or too many updates in a row were dropped.
        """
        wrong = [f'{name} = {float(value):g}' for name, value in losses.items() if not torch.isfinite(value).all()]
        finite = [f'{name} = {float(value):g}' for name, value in losses.items() if torch.isfinite(value).all()]
        named = ', '.join(wrong) if wrong else f'loss = {float(loss.detach()):g} on this process'
        rest = f' (finite: {", ".join(finite)})' if finite else ''
        text = f'{self.who}: iteration {iteration}: {named}{place}{rest}.'
        if self.action == 'stop':
            raise BadLossError(
                f'{text} The weights are those before this update. Look at the learning rate and the data; '
                "amp='float16' overflows where 'bfloat16' does not. bad_loss='skip' drops such updates and goes on.")
        self.dropped_in_a_row += 1
        if self.dropped_in_a_row > self.most:
            raise BadLossError(f'{text} It is number {self.dropped_in_a_row} in a row, and most_bad_losses='
                               f'{self.most}: dropping updates does not help here. The weights are those of the last '
                               'good update.')
        print_log(f'{text} The update is dropped ({self.dropped_in_a_row} in a row).', 'current', level=logging.WARNING)

    def relax(self) -> None:
        """An update was good: count anew."""
        self.dropped_in_a_row = 0

    def forget(self, count: Optional[int]) -> None:
        """Take the count over from a checkpoint."""
        self.dropped_in_a_row = int(count or 0)
