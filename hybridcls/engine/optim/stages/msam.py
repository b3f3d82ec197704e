"""Momentum-SAM: compute gradients at weights moved against the optimizer's momentum, without a second pass."""

from typing import Optional, cast

import torch
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.distributed.layouts import local_parts
from hybridcls.registry import OPTIM_STAGES

from ..update.update import Update
from .momentum import MOMENTA, momenta_of
from .start_epoch import check_start_epoch, has_begun
from .update_stage import UpdateStage

__all__ = ['MSAM']


@OPTIM_STAGES.register_module()
class MSAM(UpdateStage):
    r"""Compute each gradient at weights moved against the momentum: SAM's idea at the cost of a plain step.

    .. math::
        \tilde w_t = w_t - \rho \, \frac{v_t}{\lVert v_t \rVert_2}, \qquad
        \text{stepped with: } \nabla L(\tilde w_t)

    `Momentum-SAM <https://arxiv.org/abs/2401.12033>`_, Algorithm 1. :math:`v_t` is what the optimizer keeps:
    ``momentum_buffer`` of SGD, the first moment ``exp_avg`` of AdamW (the two of the authors' code) and of other
    optimizers that have one of them. Its norm is one over all parameters. The first update has no momentum and moves
    nothing. Batch, losses and running statistics are those of the moved weights, as there is one pass only.

    The weights are moved before each forward pass and restored after the backward pass, to the same bits:
    validation, checkpoints, averages (EMA, Lookahead) and other hooks only ever see :math:`w_t`. (The authors' code
    keeps the moved weights and subtracts the move where it validates.) Nothing is kept in checkpoints: a resumed run
    moves by the momentum that the optimizer resumed. Costs one copy of the weights.

    Weight decay is the optimizer's own, with one exception: torch's SGD, which adds it to the gradient, decays
    :math:`\tilde w_t`, as the authors' SGD does (which takes no heed of ``nesterov``; torch's does). Their AdamW decays
    after its step and torch's before it: a difference of ``lr ** 2 * weight_decay``.

    Args:
        rho (float): Distance of the move, >= 0. The authors' runs on CIFAR-100 and ImageNet take 3. Defaults to 0.3,
            that of their SGD.
        start_epoch (int): No move before this epoch (counted from 0); the authors' settings for a ViT on ImageNet begin
            after 8. Defaults to 0.

    Raises:
        ValueError: For numbers out of range; at the start or the second update, if the optimizer has no momentum, or if
            ``start_epoch`` never comes.

    Example:
        >>> MSAM(rho=3.0)
        MSAM(rho=3.0, start_epoch=0)
    """

    kind = 'sharpness'

    def __init__(self, rho: float = 0.3, start_epoch: int = 0) -> None:
        check_number('MSAM', 'rho', rho, 0, advice='The authors use 3.')
        check_number('MSAM', 'start_epoch', start_epoch, 0, integer=True)
        self.rho = rho
        self.start_epoch = start_epoch
        self._buffers: dict[int, Tensor] = {}  # the moved weights; while those are in place, the others
        self._moved: list[int] = []  # positions of the weights that are moved
        self._factor: Optional[Tensor] = None  # of the momentum, in the last move

    def start(self, update: Update) -> None:
        """Check that the optimizer has a momentum."""
        check_start_epoch('MSAM', self.start_epoch)
        if all(group.get('momentum') == 0 for group in update.optimizer.param_groups):
            raise self._without_momentum(update)

    def before_forward(self, update: Update) -> None:
        """Move the weights against their momentum."""
        self.after_backward(update)  # from a forward pass whose loss was never stepped with
        if not has_begun('MSAM', self.start_epoch, update):
            return
        trained = {i: param for i, param in enumerate(update.params) if param.requires_grad}
        momenta = momenta_of(update.optimizer, trained)
        if not momenta:
            if update.count:
                raise self._without_momentum(update)
            return
        where = list(momenta)
        norm = update.shards.norm(list(momenta.values()), [update.params[i] for i in where])
        self._factor = -self.rho / (norm + 1e-12)
        params = local_parts(update.params[i] for i in where)
        for i, param in zip(where, params, strict=True):
            if i not in self._buffers or self._buffers[i].shape != param.shape:
                self._buffers[i] = torch.empty_like(param)
        buffers = [self._buffers[i] for i in where]
        if update.shards.accumulates_alone:
            for param, momentum, buffer in zip(params, momenta.values(), buffers, strict=True):
                torch.addcmul(param, momentum, self._factor.to(param.device, param.dtype), out=buffer)
            self._exchange(update, where)
        else:  # FSDP reads the weights from a storage of its own
            torch._foreach_copy_(buffers, params)
            _add(params, local_parts(momenta.values()), self._factor)
        self._moved = where

    def after_backward(self, update: Update) -> None:
        """Restore the weights bit by bit."""
        where, self._moved = self._moved, []
        if update.shards.accumulates_alone:
            self._exchange(update, where)
        elif where:
            torch._foreach_copy_(local_parts(update.params[i] for i in where), [self._buffers[i] for i in where])

    def _exchange(self, update: Update, where: list[int]) -> None:
        """Swap the storages of the weights and their buffers, without copies."""
        for i in where:
            param = update.params[i]
            param.data, self._buffers[i] = self._buffers[i], param.data

    def before_step(self, update: Update) -> None:
        """Correct the weight decay of torch's SGD so that it decays the weights at which the gradient was taken."""
        factor, self._factor = self._factor, None
        if factor is None or not isinstance(update.optimizer, torch.optim.SGD):
            return
        for group in update.optimizer.param_groups:
            # Those of the group, not of the update: of class weights only the drawn rows may be stepped.
            stepped = [param for param in group['params'] if param.grad is not None]
            momenta = momenta_of(update.optimizer, dict(enumerate(stepped)))
            if momenta and group['weight_decay']:
                grads = local_parts(cast(Tensor, stepped[i].grad) for i in momenta)
                # Of maximize=True torch takes the negative of the gradient, before it adds the decay.
                decay = -group['weight_decay'] if group.get('maximize') else group['weight_decay']
                _add(grads, local_parts(momenta.values()), factor * decay)

    @staticmethod
    def _without_momentum(update: Update) -> ValueError:
        return ValueError(
            f'MSAM: expected an optimizer with momentum ({" or ".join(MOMENTA)}), along which to ascend, got '
            f'{type(update.optimizer).__name__} without. Give it one (momentum=0.9), or use SAM.'
        )


def _add(tensors: list[Tensor], others: list[Tensor], factor: Tensor) -> None:
    torch._foreach_addcmul_(tensors, others, [factor.to(tensor.device, tensor.dtype) for tensor in tensors])
