"""Another gradient of the micro-batch at hand, at other weights, by the same call of the model."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Optional

import torch
from torch import Tensor, nn

from .forward_call import ForwardCall, WanderingTensors, losses_of, total_loss
from .parameter_names import parameters_of

__all__ = ['SecondPass']


class SecondPass:
    """What it takes to repeat the forward and backward pass of a micro-batch for a stage that wants it (SAM).

    Between the passes ``.grad`` holds the gradient of this micro-batch alone; what earlier ones left waits aside, and
    the second gradient is added to it, as if the first pass had not been.

    Args:
        caller (str): Name that errors start with.
        optimizer (torch.optim.Optimizer): Whose parameters have the gradients.
    """

    def __init__(self, caller: str, optimizer: torch.optim.Optimizer) -> None:
        self._caller = caller
        self._optimizer = optimizer
        self._wandering: Optional[WanderingTensors] = None
        self._aside: Optional[list[Optional[Tensor]]] = None
        self._checked_loss = False
        self.call: Optional[ForwardCall] = None
        self.wanted = False

    def watch(self, model: nn.Module, with_frozen: bool) -> None:
        """Look out for tensors of ``model`` that a forward pass changes."""
        self._wandering = WanderingTensors(model, with_frozen)

    def begin(self, model: nn.Module, wanted: bool, may_be_undone: bool) -> ForwardCall:
        """Before the first forward pass: return the context in which the model must be called.

        Args:
            model (nn.Module): The model.
            wanted (bool): There will be a second pass.
            may_be_undone (bool): The first pass itself may have to be undone.
        """
        self.wanted = wanted
        if self._wandering is not None and wanted:
            self._wandering.mark()
        if self._wandering is not None and may_be_undone:
            self._wandering.keep()
        self.call = ForwardCall(model, remember_input=wanted)
        return self.call

    def end(self) -> None:
        """After the micro-batch: let go of its tensors."""
        self.call, self.wanted, self._aside = None, False, None

    def undo_first(self) -> None:
        """Undo what the first forward pass did to tensors that no optimizer owns."""
        if self._wandering is not None:
            self._wandering.put_back()

    @property
    def losses(self) -> dict[str, Tensor]:
        """The named losses of the first pass, as far as they are known."""
        return {} if self.call is None else losses_of(self.call.output)

    def set_gradients_aside(self, is_first: bool) -> None:
        """Leave ``.grad`` empty for the gradient of this micro-batch alone.

        Args:
            is_first (bool): It is the first one of the update: what is there is zeros at most.
        """
        params = parameters_of(self._optimizer)
        self._aside = [None if is_first else param.grad for param in params]
        for param in params:
            param.grad = None

    @contextmanager
    def held(self, loss: Tensor) -> Iterator[None]:
        """Let the second pass happen in here; it leaves no trace but its gradient.

        Args:
            loss (Tensor): What ``update_params`` was given.
        """
        if self._aside is None or self.call is None:  # a stage that only bends the gradient
            yield
            return
        if not self._checked_loss:
            self._check_loss(self.call, loss)
        with nullcontext() if self._wandering is None else self._wandering.held():
            yield

    def _check_loss(self, call: ForwardCall, loss: Tensor) -> None:
        """See once that the loss of a second pass will mean what the loss of the first one does."""
        found = total_loss(call.model, call.output).detach()
        if not torch.allclose(found.float(), loss.detach().float(), rtol=1e-3, atol=1e-6, equal_nan=True):
            raise ValueError(
                f'{self._caller}: update_params got the loss {float(loss.detach()):g}, and the losses '
                f'that {type(call.model).__name__} returned amount to {float(found):g}: a second pass would '
                'follow another loss. Do all weighting of losses in forward or parse_losses.'
            )
        self._checked_loss = True

    @contextmanager
    def again(self) -> Iterator[ForwardCall]:
        """Give the call to make again in here, with ``.grad`` as if the first pass had not been.

        Raises:
            RuntimeError: If nobody had asked for a second pass before the first one.
        """
        if self._aside is None or self.call is None:
            raise RuntimeError(
                f'{self._caller}: a stage asked for another gradient, and its needs_second_pass '
                'had not said so before the forward pass.'
            )
        for param, grad in zip(parameters_of(self._optimizer), self._aside, strict=True):
            param.grad = grad
        # Weights change under the cache of an autocast that somebody may have entered further out.
        torch.clear_autocast_cache()
        try:
            with torch.enable_grad():
                yield self.call
        finally:
            torch.clear_autocast_cache()
