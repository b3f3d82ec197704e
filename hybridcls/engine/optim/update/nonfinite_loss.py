"""What happens when a loss is not a number."""

import logging
import math
from typing import Any, Optional

import torch
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.checks import check_choice, check_number

__all__ = ['NonFiniteLossError', 'NonFiniteLossGuard']


class NonFiniteLossError(FloatingPointError):
    """A loss was NaN or infinite. The weights are those of the last good update."""


class NonFiniteLossGuard:
    """Looks at each loss, before anything is done to the weights.

    Looking and asking are two calls: a GPU is asked only after it has been given the backward pass, and then answers
    as soon as the forward pass is done, so that it never stands idle for the question.

    Args:
        caller (str): Name that errors start with.
        action (str): ``'raise'``: raise; ``'skip'``: drop the update that the loss belongs to, and go on; ``'ignore'``:
            do not look (no synchronisation with the device, no communication).
        most (int): So many updates in a row may be dropped; the next one stops.
    """

    def __init__(self, caller: str, action: str, most: int) -> None:
        check_choice(caller, 'nonfinite_loss', action, ['raise', 'skip', 'ignore'])
        check_number(caller, 'max_skipped_updates', most, 1, integer=True)
        self.caller = caller
        self.action = action
        self.most = most
        self.dropped_in_a_row = 0
        self._seen: Any = None
        self._event: Any = None

    @property
    def skips(self) -> bool:
        """Bad updates are dropped, not the end."""
        return self.action == 'skip'

    def record(self, loss: Tensor) -> None:
        """Note whether the loss of any process is not finite; all processes must come here together."""
        if self.action == 'ignore':
            return
        loss = loss.detach()
        alone = not (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        )
        if alone and not loss.is_cuda:
            self._seen = loss
            return
        bad = (~torch.isfinite(loss)).any().to(torch.int32)
        if not alone:
            # One process must not leave the others waiting in the next collective call.
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        if bad.is_cuda:
            self._seen = torch.empty_like(bad, device='cpu', pin_memory=True).copy_(bad, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._seen = bad

    def is_nonfinite(self) -> bool:
        """The answer for the loss that :meth:`record` saw last; the same in all processes."""
        seen, self._seen = self._seen, None
        if seen is None:
            return False
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        if seen.is_floating_point():
            return not (math.isfinite(seen.item()) if seen.numel() == 1 else bool(torch.isfinite(seen).all()))
        return bool(seen.item())

    def handle(self, losses: dict[str, Tensor], loss: Tensor, iteration: int, place: str = '') -> None:
        """Raise, or say that the update is dropped.

        Args:
            losses (dict[str, Tensor]): The losses that the total is made of, by name, as far as they are known.
            loss (Tensor): The total loss of this process.
            iteration (int): Iteration, from 1 as logs count.
            place (str): Where it happened, if not at the weights themselves.

        Raises:
            NonFiniteLossError: If the action is to stop, or too many updates in a row were dropped.
        """
        text = f'{self.caller}: iteration {iteration}: {_describe(losses, loss)}{place}.'
        if self.action == 'raise':
            raise NonFiniteLossError(
                f'{text} The weights are those before this update. Look at the learning rate and the data; '
                "amp='float16' overflows where 'bfloat16' does not. nonfinite_loss='skip' drops such updates, and "
                'training goes on.'
            )
        self.dropped_in_a_row += 1
        if self.dropped_in_a_row > self.most:
            raise NonFiniteLossError(
                f'{text} It is number {self.dropped_in_a_row} in a row, and max_skipped_updates='
                f'{self.most}: dropping updates does not help here. The weights are those of the last '
                'good update.'
            )
        print_log(f'{text} The update is dropped ({self.dropped_in_a_row} in a row).', 'current', level=logging.WARNING)

    def reset(self) -> None:
        """An update was good: count anew."""
        self.dropped_in_a_row = 0

    def resume(self, count: Optional[int]) -> None:
        """Take the count over from a checkpoint."""
        self.dropped_in_a_row = int(count or 0)


def _describe(losses: dict[str, Tensor], loss: Tensor) -> str:
    values = {name: float(value) for name, value in losses.items() if 'loss' in name} or dict(loss=float(loss.detach()))
    wrong = [f'{name} = {value:g}' for name, value in values.items() if not math.isfinite(value)]
    finite = [f'{name} = {value:g}' for name, value in values.items() if math.isfinite(value)]
    if not wrong and math.isfinite(float(loss.detach())):
        return f'a loss of another process is not finite (here {", ".join(finite)})'
    wrong = wrong or [f'loss = {float(loss.detach()):g}']
    return ', '.join(wrong) + (f' (finite: {", ".join(finite)})' if finite else '')
