"""Sharpness-aware minimization: step with the gradient at the worst nearby point."""

from typing import Optional, Union

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.distributed.layouts import local_parts
from hybridcls.registry import OPTIM_STAGES

from ..update.update import Update
from .look_sam import add_direction, add_gradient, orthogonal_direction
from .start_epoch import check_start_epoch, has_begun
from .update_stage import UpdateStage

__all__ = ['SAM']


@OPTIM_STAGES.register_module()
class SAM(UpdateStage):
    r"""SAM and its adaptive form ASAM, at every update or every n-th.

    .. math::
        \hat\epsilon = \rho \, \frac{T_w^2 \, g}{\lVert T_w \, g \rVert_2}, \qquad
        g = \nabla L(w), \qquad \text{stepped with: } \nabla L(w + \hat\epsilon)

    ``T_w`` is 1 for `SAM <https://arxiv.org/abs/2010.01412>`_ (Eq. 2 with p = 2), and ``abs(w) + eta`` for `ASAM
    <https://arxiv.org/abs/2102.11600>`_ (Eq. 4 and Algorithm 1). The norm is one over all parameters. The loss, the
    batch with whatever was mixed into it, and the running statistics are those of the first pass; only the gradient is
    that of the second. The weights are restored from a copy, to the same bits.

    Under gradient accumulation each micro-batch ascends by its own gradient. Costs one more forward and backward pass
    and one copy of the weights. With ``every`` it is there during the second pass only, and with ``reuse`` the
    direction takes its room between ascents.

    Args:
        rho (float): Radius of the neighbourhood, >= 0; ASAM wants about ten times as much. Defaults to 0.05.
        adaptive (bool | str): True is ASAM on all parameters; ``'weights'`` only on those whose name contains
            "weight", the others ascending as in SAM: the form of the authors' code. Defaults to False.
        eta (float): Added to ``abs(w)``; 0 is the equation, the authors' code has 0.01. Defaults to 0.
        every (int): Ascend on updates 0, n, 2n, ... only. Defaults to 1.
        reuse (bool | float): On the updates between, add the direction of the last ascent: `LookSAM
            <https://arxiv.org/abs/2203.02714>`_ (Algorithm 1). With :math:`g_v` the part of the last second gradient
            that is orthogonal to its first one, they step with :math:`g + \alpha \lVert g \rVert / \lVert g_v \rVert
            \cdot g_v`. The number is :math:`\alpha`, True is 0.7. Defaults to False: plain updates.
        start_epoch (int): No ascent before this epoch (counted from 0). Defaults to 0.
        sync (bool): Under DDP, ascend by the gradient of the whole batch, as one process would. False: each process
            ascends by that of its own part (m-sharpness, Section 3 of the SAM paper), and the first pass needs no
            communication. Defaults to True.
        same_randomness (bool): Draw the same dropout masks in both passes. Defaults to True.
        log (bool): Log ``sam/ascent_norm``, the norm of the first gradient (of ``T_w * g`` for ASAM), and
            ``sam/ascent_loss``, the loss at the worst point. Defaults to False.

    Raises:
        ValueError: For numbers out of range, ``reuse`` without ``every``, or (at the start) a ``start_epoch`` that
            never comes, or ``sync=False`` where processes hold only pieces of the weights.

    Example:
        >>> SAM(rho=0.1, every=5, reuse=True).reuse
        0.7
    """

    kind = 'sharpness'
    tensor_state = ('first_gradient', 'direction')

    def __init__(
        self,
        rho: float = 0.05,
        adaptive: Union[bool, str] = False,
        eta: float = 0.0,
        every: int = 1,
        reuse: Union[bool, float] = False,
        start_epoch: int = 0,
        sync: bool = True,
        same_randomness: bool = True,
        log: bool = False,
    ) -> None:
        check_number('SAM', 'rho', rho, 0, advice='The papers use 0.05 for SAM and 0.5 to 2 for ASAM.')
        check_choice('SAM', 'adaptive', adaptive, [False, True, 'weights'])
        check_number('SAM', 'eta', eta, 0)
        check_number('SAM', 'every', every, 1, integer=True)
        check_number('SAM', 'start_epoch', start_epoch, 0, integer=True)
        alpha = 0.7 if reuse is True else 0.0 if reuse is False else reuse
        check_number('SAM', 'reuse', alpha, 0)
        if alpha and every == 1:
            raise ValueError(
                f'SAM: expected every > 1 beside reuse={reuse}, got every=1, which ascends on each update. Set '
                'every=5, or drop reuse.'
            )
        if alpha and not sync:
            raise ValueError(
                'SAM: expected sync=True beside reuse, which needs one direction for all processes, got sync=False. '
                'Drop one of them.'
            )
        if eta and not adaptive:
            raise ValueError(
                f"SAM: expected adaptive beside eta={eta}, got adaptive=False. Set adaptive='weights' (the authors' "
                'code) or adaptive=True, or drop eta.'
            )
        self.rho = rho
        self.adaptive = adaptive
        self.eta = eta
        self.every = every
        self.reuse = float(alpha)
        self.start_epoch = start_epoch
        self.sync = sync
        self.same_randomness = same_randomness
        self.log = log
        self.first_gradient: dict[int, Tensor] = {}  # with reuse, while an update is being accumulated
        self.direction: dict[int, Tensor] = {}  # of norm 1
        self._buffers: dict[int, Tensor] = {}

    def start(self, update: Update) -> None:
        """Check that there can be an ascent, and that this process can move its weights alone if it must."""
        check_start_epoch('SAM', self.start_epoch)
        if not self.sync and not update.shards.can_ascend_alone:
            raise ValueError(
                'SAM: expected sync=True where processes hold only pieces of the weights (FSDP, tensor parallelism, '
                'sharded class weights), got sync=False, which lets each ascend by itself. Use sync=True, or DDP.'
            )

    def needs_second_pass(self, update: Update) -> bool:
        """Return whether this micro-batch ascends."""
        return update.count % self.every == 0 and has_begun('SAM', self.start_epoch, update)

    def wants_sync(self) -> bool:
        """Return whether the ascent uses the gradient averaged over all processes."""
        return self.sync

    def second_pass(self, update: Update) -> None:
        """Replace the gradient by that at the worst point, or (LookSAM) add the last direction to it."""
        if self.needs_second_pass(update):
            self.direction = {}  # an ascent that fails is followed by another one, and never by an update without
            self._ascend_and_restore(update)
            if self.every > 1 and update.is_last:
                self._buffers = {}
            if self.reuse and update.is_last:
                self.direction = orthogonal_direction(update, self.first_gradient)
                self.first_gradient = {}
        elif self.reuse and self.direction and update.is_last and has_begun('SAM', self.start_epoch, update):
            add_direction(update, self.direction, self.reuse)

    def _ascend_and_restore(self, update: Update) -> None:
        where = update.with_gradient()
        if not where:
            update.recompute_gradient(self.same_randomness)
            return
        params = local_parts(update.params[i] for i in where)
        if self.reuse:
            if update.is_first:  # what an update left that was dropped on its way
                self.first_gradient = {}
            add_gradient(self.first_gradient, update, where, must_copy=bool(self.adaptive))
        # First they hold T of the adaptive form; the copy of the weights is taken only when T is used up.
        buffers = self._buffers_like(where, params)
        norm = self._scale_gradient(update, where, params, buffers) if self.adaptive else self._norm(update, where)
        factor = self._step_length(update, norm)
        copies = buffers
        torch._foreach_copy_(copies, params)
        try:
            if factor is not None:
                grads = local_parts(update.gradients(where))
                torch._foreach_addcmul_(params, grads, [factor.to(param.device, param.dtype) for param in params])
                del grads
            loss = update.recompute_gradient(self.same_randomness)
        finally:
            torch._foreach_copy_(params, copies)
        if self.log and not update.is_dropped:
            update.log('sam/ascent_norm', norm / update.grad_scale)
            update.log('sam/ascent_loss', loss)

    @staticmethod
    def _norm(update: Update, where: list[int]) -> Tensor:
        params = [update.params[i] for i in where]
        return update.shards.norm(update.gradients(where), params)

    def _scale_gradient(self, update: Update, where: list[int], params: list[Tensor], buffers: list[Tensor]) -> Tensor:
        """Scale each gradient g to T^2 g, in place; return the norm of all T g. ``buffers`` are overwritten by T."""
        own = [j for j, i in enumerate(where) if self.adaptive is True or 'weight' in update.names[i]]
        grads, sizes = local_parts(update.gradients(where[j] for j in own)), [buffers[j] for j in own]
        if own:
            torch._foreach_copy_(sizes, [params[j] for j in own])
            torch._foreach_abs_(sizes)
            if self.eta:
                torch._foreach_add_(sizes, self.eta)
            torch._foreach_mul_(grads, sizes)
        norm = self._norm(update, where)
        if own:
            torch._foreach_mul_(grads, sizes)
        return norm

    def _step_length(self, update: Update, norm: Tensor) -> Optional[Tensor]:
        """Return the factor from gradient to ascent step; None to leave the weights unchanged.

        After an overflow the weights must not become NaN, which some models answer with a crash: the second pass
        overflows again, and the loss scaler skips the update.
        """
        if update.may_overflow and not torch.isfinite(norm):
            return None
        return self.rho / ((norm / update.grad_scale + 1e-12) * update.grad_scale)

    def _buffers_like(self, where: list[int], params: list) -> list[Tensor]:
        for i, param in zip(where, params, strict=True):
            if i not in self._buffers or self._buffers[i].shape != param.shape:
                self._buffers[i] = torch.empty_like(param)
        return [self._buffers[i] for i in where]
