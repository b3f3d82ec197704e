"""Friendly-SAM: ascend along the batch's gradient minus the moving average of earlier ones."""

from typing import Union

import torch
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.distributed.layouts import local_parts
from hybridcls.registry import OPTIM_STAGES

from ..update.update import Update
from .look_sam import add_gradient
from .sam import SAM
from .update_stage import UpdateStage

__all__ = ['FriendlySAM']


@OPTIM_STAGES.register_module()
class FriendlySAM(UpdateStage):
    r"""SAM that ascends along the gradient's noise: the batch gradient minus a moving average of the full gradient.

    .. math::
        \hat\epsilon = \rho \, \frac{d}{\lVert d \rVert_2}, \quad d = g - \sigma m, \qquad
        m \leftarrow \lambda m + (1 - \lambda) \, g, \qquad \text{stepped with: } \nabla L(w + \hat\epsilon)

    `Friendly-SAM <https://arxiv.org/abs/2403.12350>`_ (CVPR 2024), as in the authors' code: ``m`` starts with the first
    gradient, whose ascent is that of SAM, and takes in g after d is taken. (With the m that has g in it already, d is
    the same up to its length for :math:`\sigma = 1`.) All else is that of :class:`SAM`: under DDP, g is the gradient of
    the whole batch; under gradient accumulation each micro-batch ascends by its own g, and m, the same in all of them,
    takes in their mean. Updates that are skipped leave m as it was.

    Costs one more forward and backward pass, and three copies of the weights (SAM: one): m, and in the second pass the
    first gradient.

    Args:
        rho (float): Radius of the neighbourhood, >= 0; the authors' runs on CIFAR-100 take 0.2. Defaults to 0.05.
        sigma (float): Share of m that is left out, >= 0; 0 is SAM. Defaults to 1.
        lmbda (float): :math:`\lambda`, decay of the moving average, in [0, 1]; the authors' runs take 0.6 and 0.95.
            Defaults to 0.9.
        adaptive (bool | str): As for SAM: ASAM's ascent along d. Defaults to False.
        start_epoch (int): No ascent before this epoch (counted from 0); m starts there too. Defaults to 0.
        same_randomness (bool): Draw the same dropout masks in both passes. Defaults to True.
        log (bool): Log ``sam/ascent_norm``, here the norm of d, and ``sam/ascent_loss``. Defaults to False.

    Raises:
        ValueError: For numbers out of range, or (at the start) a ``start_epoch`` that never comes.

    Example:
        >>> FriendlySAM(rho=0.2, lmbda=0.6).lmbda
        0.6
    """

    kind = 'sharpness'
    tensor_state = ('mean_gradient', 'first_gradient')

    def __init__(
        self,
        rho: float = 0.05,
        sigma: float = 1.0,
        lmbda: float = 0.9,
        adaptive: Union[bool, str] = False,
        start_epoch: int = 0,
        same_randomness: bool = True,
        log: bool = False,
    ) -> None:
        check_number('FriendlySAM', 'rho', rho, 0, advice='The authors use 0.2.')
        check_number('FriendlySAM', 'sigma', sigma, 0)
        check_number('FriendlySAM', 'lmbda', lmbda, 0, 1)
        self.sigma = sigma
        self.lmbda = lmbda
        self.sam = SAM(rho, adaptive, start_epoch=start_epoch, same_randomness=same_randomness, log=log)
        self.mean_gradient: dict[int, Tensor] = {}
        self.first_gradient: dict[int, Tensor] = {}  # of the update at hand, times the loss scale

    @property
    def rho(self) -> float:
        """Radius of the neighbourhood; a hook may set it between updates."""
        return self.sam.rho

    @rho.setter
    def rho(self, rho: float) -> None:
        self.sam.rho = rho

    def start(self, update: Update) -> None:
        """Check that there can be an ascent."""
        self.sam.start(update)

    def needs_second_pass(self, update: Update) -> bool:
        """Return whether this micro-batch ascends."""
        return self.sam.needs_second_pass(update)

    def second_pass(self, update: Update) -> None:
        """Ascend along the gradient minus its mean, and keep the gradient for the mean."""
        if not self.needs_second_pass(update):
            return
        if update.is_first:  # what an update left that was dropped on its way
            self.first_gradient = {}
        where = update.with_gradient()
        add_gradient(self.first_gradient, update, where, must_copy=True)
        known = [i for i in where if i in self.mean_gradient]
        if known:
            grads, means = local_parts(update.gradients(known)), local_parts(self.mean_gradient[i] for i in known)
            factor = -self.sigma * update.grad_scale
            factors = [torch.as_tensor(factor, dtype=grad.dtype, device=grad.device) for grad in grads]
            torch._foreach_addcmul_(grads, means, factors)
        self.sam.second_pass(update)

    def after_step(self, update: Update) -> None:
        """Update the moving average with the first gradient."""
        first, self.first_gradient = self.first_gradient, {}
        if first and update.may_overflow:
            norm = update.shards.norm(list(first.values()), [update.params[i] for i in first])
            if not torch.isfinite(norm):  # of the first pass alone, so the scaler did not skip the step
                return
        for i, grad in first.items():
            (own,) = local_parts([grad])
            own.div_(torch.as_tensor(update.loss_scale, dtype=own.dtype, device=own.device))
            if i in self.mean_gradient:
                (mean,) = local_parts([self.mean_gradient[i]])
                mean.mul_(self.lmbda).add_(own, alpha=1 - self.lmbda)
            else:
                self.mean_gradient[i] = grad
