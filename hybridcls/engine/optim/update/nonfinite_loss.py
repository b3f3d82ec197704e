"""Handle losses that are NaN or infinite."""

import logging
import math
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from hybridcls.checks import check_choice, check_number

__all__ = ['NonFiniteLossError', 'NonFiniteLossGuard']


class NonFiniteLossError(FloatingPointError):
    """A loss was NaN or infinite. The weights are those of the last good update."""


class NonFiniteLossGuard:
    """Check each loss before anything happens to the weights.

    Looking and asking are two calls: a GPU is asked only after it has been given the backward pass, and then answers
    as soon as the forward pass is done, so that it never stands idle for the question.

    Args:
        caller (str): Name that errors start with.
        action (str): ``'raise'``: raise; ``'skip'``: drop the update that the loss belongs to, and go on; ``'ignore'``:
            do not look (no synchronisation with the device, no communication).
        max_skipped (int): So many updates in a row may be dropped; the next one stops.

    Attributes:
        is_dropping (bool): The update at hand is dropped: a loss of it was not finite.
        skipped_in_a_row (int): Dropped updates since the last one that was done.
    """

    def __init__(self, caller: str, action: str, max_skipped: int) -> None:
        check_choice(caller, 'nonfinite_loss', action, ['raise', 'skip', 'ignore'])
        check_number(caller, 'max_skipped_updates', max_skipped, 1, integer=True)
        self.caller = caller
        self.action = action
        self.max_skipped = max_skipped
        self.is_dropping = False
        self.skipped_in_a_row = 0
        self._seen: Any = None
        self._event: Any = None

    @property
    def skips(self) -> bool:
        """Whether updates with a non-finite loss are dropped without stopping the run."""
        return self.action == 'skip'

    def record(self, loss: Tensor) -> None:
        """Note whether the loss of any process is not finite; all processes must call this together."""
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
        found = (~torch.isfinite(loss)).any().to(torch.int32)
        if not alone:
            # One process must not leave the others waiting in the next collective call.
            torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        if found.is_cuda:
            self._seen = torch.empty_like(found, device='cpu', pin_memory=True).copy_(found, non_blocking=True)
            self._event = torch.cuda.Event()
            # The copy is on the stream of the loss's device, which need not be the current device.
            self._event.record(torch.cuda.current_stream(found.device))
        else:
            self._seen = found

    def is_nonfinite(self) -> bool:
        """Return whether the last loss of :meth:`record` is not finite in any process; the same in all of them."""
        seen, self._seen = self._seen, None
        if seen is None:
            return False
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        if seen.is_floating_point():
            return not (math.isfinite(seen.item()) if seen.numel() == 1 else bool(torch.isfinite(seen).all()))
        return bool(seen.item())

    def drop_update(self, losses: dict[str, Tensor], loss: Tensor, iteration: int, place: str = '') -> None:
        """Raise, or drop the present update and log it.

        Args:
            losses (dict[str, Tensor]): The losses that the total is made of, by name, as far as they are known.
            loss (Tensor): The total loss of this process.
            iteration (int): Iteration, from 1 as logs count.
            place (str): Where it happened, if not at the weights themselves.

        Raises:
            NonFiniteLossError: If the action is to raise, or too many updates in a row were dropped.
        """
        if self.is_dropping:
            return
        text = f'{self.caller}: iteration {iteration}: {_describe(losses, loss)}{place}.'
        if self.action == 'raise':
            raise NonFiniteLossError(
                f'{text} The weights are unchanged by this update. Check the learning rate and the data; '
                "amp='float16' overflows where 'bfloat16' does not. nonfinite_loss='skip' drops such updates and "
                'continues.'
            )
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > self.max_skipped:
            raise NonFiniteLossError(
                f'{text} It is number {self.skipped_in_a_row} in a row, and max_skipped_updates={self.max_skipped}: '
                'dropping updates does not help. The weights are from the last good update.'
            )
        self.is_dropping = True
        print_log(f'{text} The update is dropped ({self.skipped_in_a_row} in a row).', 'current', level=logging.WARNING)

    def ends_dropped_update(self) -> bool:
        """Return whether the present update is dropped, and end the dropping."""
        was_dropping, self.is_dropping = self.is_dropping, False
        return was_dropping

    def reset(self) -> None:
        """Reset the count of dropped updates in a row after a successful one."""
        self.skipped_in_a_row = 0

    def state(self) -> dict[str, int]:
        """Return the state for a checkpoint."""
        return dict(skip_update=self.is_dropping, skipped_in_a_row=self.skipped_in_a_row)

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`; missing entries are 0."""
        self.is_dropping = bool(state.get('skip_update'))
        self.skipped_in_a_row = int(state.get('skipped_in_a_row') or 0)


def _describe(losses: dict[str, Tensor], loss: Tensor) -> str:
    values = {name: float(value) for name, value in losses.items() if 'loss' in name} or dict(loss=float(loss.detach()))
    wrong = [f'{name} = {value:g}' for name, value in values.items() if not math.isfinite(value)]
    finite = [f'{name} = {value:g}' for name, value in values.items() if math.isfinite(value)]
    if not wrong and math.isfinite(float(loss.detach())):
        return f'a loss of another process is not finite (here {", ".join(finite)})'
    wrong = wrong or [f'loss = {float(loss.detach()):g}']
    return ', '.join(wrong) + (f' (finite: {", ".join(finite)})' if finite else '')
