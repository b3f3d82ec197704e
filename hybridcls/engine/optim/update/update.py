"""The update as its stages see it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional, Union, cast

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from hybridcls.distributed.layouts import Shards
from hybridcls.renames import warn_renamed

from .micro_batch import MicroBatch

__all__ = ['Update']


@dataclass
class Update:
    """The present update, as its stages see it.

    Attributes:
        optimizer (torch.optim.Optimizer): The optimizer that steps.
        params (list[nn.Parameter]): All parameters of the optimizer, by position: the order of its groups. Those that
            need no gradient keep their place, so that a position stays what it was.
        names (list[str]): Their names in the model; ``''`` where no model was given.
        owners (list[nn.Module | None]): The modules that hold them.
        shards (Shards): How they are spread over processes, with norms that know it.
        count (int): Updates done so far. One that was skipped (overflow, non-finite loss) is none.
        is_first (bool): The micro-batch at hand begins the update (always True without gradient accumulation).
        is_last (bool): It completes the update.
        is_dropped (bool): A loss of the update was not finite where :meth:`recompute_gradient` was called, and
            ``nonfinite_loss='skip'`` goes on without it: there are no gradients, and no state should be taken from it.
        may_overflow (bool): A loss scaler is at work: gradients that are not finite are nothing unusual.
        grad_scale (float | Tensor): The gradients are this many times those of the mean loss of the micro-batch: the
            loss scale over the number of micro-batches.
        loss_scale (float | Tensor): What the loss scaler multiplies losses by, in a second pass; 1 without one.
        micro_batch (MicroBatch, optional): The one at hand, in a second pass.
        message_hub (MessageHub, optional): Where :meth:`log` logs.
    """

    optimizer: torch.optim.Optimizer
    params: list[nn.Parameter]
    names: list[str]
    owners: list[Optional[nn.Module]]
    shards: Shards = field(default_factory=Shards)
    count: int = 0
    is_first: bool = True
    is_last: bool = True
    is_dropped: bool = False
    may_overflow: bool = False
    grad_scale: Union[float, Tensor] = 1.0
    loss_scale: Union[float, Tensor] = 1.0
    micro_batch: Optional[MicroBatch] = field(default=None, repr=False)
    message_hub: Optional[MessageHub] = field(default=None, repr=False)

    def with_gradient(self) -> list[int]:
        """Return the positions of the parameters that have a gradient."""
        return [i for i, param in enumerate(self.params) if param.grad is not None]

    def gradients(self, positions: Iterable[int]) -> list[Tensor]:
        """Return the gradients of the parameters at these positions, all of which must have one."""
        return [cast(Tensor, self.params[i].grad) for i in positions]

    def recompute_gradient(self, same_randomness: bool = True) -> Tensor:
        """Repeat the forward call of this micro-batch at the present weights, and replace the gradient by its gradient.

        It is added to what earlier micro-batches left. Only in ``second_pass``, where ``needs_second_pass`` has said
        True before the forward pass.

        Args:
            same_randomness (bool): Draw the same random numbers (dropout, stochastic depth) as the first pass did.

        Returns:
            Tensor: The loss there, a detached scalar; see :attr:`is_dropped`.

        Raises:
            RuntimeError: If ``needs_second_pass`` did not say True.
        """
        if self.micro_batch is None:
            raise RuntimeError(
                'Update.recompute_gradient: expected needs_second_pass of the stage to return True before the forward '
                'pass, got False. Override it, and call recompute_gradient in second_pass only.'
            )
        loss, self.is_dropped = self.micro_batch.recompute_gradient(same_randomness)
        return loss

    def regrad(self, same_randomness: bool = True) -> Tensor:  # old spelling
        """Call :meth:`recompute_gradient`, which had this name in version 0.1."""
        warn_renamed('regrad', 'recompute_gradient', type(self).__name__)  # old spelling
        return self.recompute_gradient(same_randomness)

    def log(self, name: str, value: object) -> None:
        """Log a number beside the losses."""
        if self.message_hub is not None:
            self.message_hub.update_scalar(f'train/{name}', value)  # type: ignore[arg-type]

    @property
    def epoch(self) -> Optional[int]:
        """The epoch from 0, if mmengine's RuntimeInfoHook provides it."""
        return MessageHub.get_current_instance().runtime_info.get('epoch')
