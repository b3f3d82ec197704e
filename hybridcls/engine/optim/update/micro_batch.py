"""A micro-batch: one forward call of the model, its gradient, and another gradient by the same call."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional

import torch
from torch import Tensor, nn

from hybridcls.replay.forward_call import ForwardCall
from hybridcls.replay.mutable_state import MutableState

from .losses import losses_of, total_loss
from .nonfinite_loss import NonFiniteLossGuard
from .precision import Precision

__all__ = ['MicroBatch']


class MicroBatch:
    """The state between the forward call of a training step and its update.

    For a stage that needs a second pass (SAM), ``.grad`` holds the gradient of this micro-batch alone between the
    passes; what earlier micro-batches left is set aside, and the second gradient is added to it, as if the first pass
    had not been.

    Args:
        model (nn.Module): The model, wrapped or not.
        params (Sequence[nn.Parameter]): All parameters of the optimizer.
        precision (Precision): What the model is run in.
        guard (NonFiniteLossGuard): Looks at the second loss.
        state (MutableState, optional): Tensors of the model that a forward pass changes, if they are watched.
        number (int): Micro-batches of the training until this one, it included.

    Attributes:
        has_second_pass (bool): A stage will replay the call.
    """

    def __init__(
        self,
        model: nn.Module,
        params: Sequence[nn.Parameter],
        precision: Precision,
        guard: NonFiniteLossGuard,
        state: Optional[MutableState] = None,
        number: int = 1,
    ) -> None:
        self.call = ForwardCall(model, remember_input=False)
        self.has_second_pass = False
        self._params = params
        self._precision = precision
        self._guard = guard
        self._state = state
        self._number = number
        self._per_update = 1
        self._is_averaged = True
        self._aside: list[Optional[Tensor]] = []

    def plan_second_pass(self, per_update: int, is_averaged: bool) -> None:
        """Record the coming forward pass for a second one.

        Args:
            per_update (int): Micro-batches of the update, which their losses are averaged over.
            is_averaged (bool): The gradient of the second pass is averaged over processes.
        """
        self.has_second_pass = self.call.remember_input = True
        self._per_update, self._is_averaged = per_update, is_averaged

    @contextmanager
    def forward_pass(self, is_averaged: bool) -> Iterator[None]:
        """Run the model in this context: mixed precision, no needless communication, the call recorded.

        Args:
            is_averaged (bool): The gradient of this pass is averaged over processes.
        """
        if self._state is not None:
            if self.has_second_pass:
                self._state.record()
            if self._guard.skips:
                self._state.snapshot()
        try:
            with _averaging(self.call.model, is_averaged), self._precision.autocast(), self.call:
                yield
        except BaseException:
            self.call = ForwardCall(self.call.model, remember_input=False)  # the images of this one take memory
            raise

    @property
    def losses(self) -> dict[str, Tensor]:
        """The named losses of the first pass, as far as they are known."""
        return losses_of(self.call.output)

    def undo_forward_pass(self) -> None:
        """Undo the first pass's changes to tensors outside of the optimizer, if non-finite losses are skipped."""
        if self._state is not None:
            self._state.restore()

    def set_gradients_aside(self, is_first: bool) -> None:
        """Set accumulated gradients aside, so that ``.grad`` receives this micro-batch's gradient alone.

        Args:
            is_first (bool): It is the first one of the update: what is there is zeros at most.
        """
        self._aside = [None if is_first else param.grad for param in self._params]
        for param in self._params:
            param.grad = None

    def rolled_back(self) -> AbstractContextManager:
        """Run the second pass in this context, which undoes all of its effects but the gradient."""
        return nullcontext() if self._state is None or not self.has_second_pass else self._state.rolled_back()

    def recompute_gradient(self, same_randomness: bool) -> tuple[Tensor, bool]:
        """Replay the call at the present weights, with ``.grad`` as if the first pass had not happened.

        Args:
            same_randomness (bool): Draw the same random numbers.

        Returns:
            tuple[Tensor, bool]: The loss, a detached scalar; and whether it was not finite, and the update is dropped
            for it: then there are no gradients.

        Raises:
            NonFiniteLossError: If the loss is not finite, and the run does not go on without the update.
        """
        for param, grad in zip(self._params, self._aside, strict=True):
            param.grad = grad
        model = self.call.model
        # Weights change under the cache of an autocast that the caller may have entered further out.
        torch.clear_autocast_cache()
        with torch.enable_grad():
            with _averaging(model, self._is_averaged), self._precision.autocast():
                output = self.call.replay(same_randomness)
            loss = total_loss(model, output)
            self._guard.record(loss)
            self._precision.scaled(loss / self._per_update).backward()
        torch.clear_autocast_cache()
        is_dropped = self._guard.is_nonfinite()
        if is_dropped:
            for param in self._params:
                param.grad = None
            self._guard.drop_update(losses_of(output), loss, self._number, ' at the weights of the second pass')
        return loss.detach(), is_dropped


def _averaging(model: Any, is_averaged: bool) -> AbstractContextManager:
    """Average gradients over processes in the block, or not, if the model is wrapped for several."""
    return nullcontext() if is_averaged or not hasattr(model, 'no_sync') else model.no_sync()
