"""Lookahead: slow weights, which follow the fast ones every k steps."""

import torch
from torch import Tensor

from hybridcls.checks import check_choice, check_number
from hybridcls.distributed.layouts import local_parts
from hybridcls.registry import OPTIM_STAGES

from ..update.update import Update
from .momentum import MOMENTA, momenta_of
from .update_stage import UpdateStage

__all__ = ['Lookahead']


@OPTIM_STAGES.register_module()
class Lookahead(UpdateStage):
    r"""After every k steps of the optimizer, move the slow weights, and continue the fast ones from there.

    .. math::
        \phi \leftarrow \phi + \alpha \, (\theta - \phi), \qquad \theta \leftarrow \phi

    Algorithm 1 of `Lookahead <https://arxiv.org/abs/1907.08610>`_. The slow weights are at first those that training
    started from (some public versions take them from the fast weights at the first synchronisation, so that the first
    k steps are lost to the method). Steps that a loss scaler skipped, and updates dropped for a non-finite loss, do not
    count.

    The paper evaluates the slow weights: ``custom_hooks=[dict(type='SlowWeightsHook')]`` does so, and puts them into
    checkpoints. Buffers such as BatchNorm's statistics have no slow form. Costs one copy of the weights, one more of
    the momenta with ``momentum='pullback'``.

    Args:
        k (int): Steps of the optimizer to one slow step, >= 1. Defaults to 5.
        alpha (float): Length of the slow step, in [0, 1]; 1 is the optimizer alone. Defaults to 0.5.
        momentum (str): What becomes of the optimizer's momentum at a slow step (Section 2.1): ``'keep'``,
            ``'reset'`` to zero, or ``'pullback'``, which averages it with that of the last slow step as it does
            weights (from zero, which training starts with). Of Adam's kin it is the first moment; the second stays.
            Defaults to ``'keep'``.

    Raises:
        ValueError: For numbers out of range; at a slow step, if there is no momentum to reset or to pull back.

    Example:
        >>> Lookahead(k=10, alpha=0.8)
        Lookahead(k=10, alpha=0.8, momentum='keep')
    """

    kind = 'averaging'
    tensor_state = ('slow', 'slow_momentum')
    number_state = ('steps_since',)

    def __init__(self, k: int = 5, alpha: float = 0.5, momentum: str = 'keep') -> None:
        check_number('Lookahead', 'k', k, 1, integer=True)
        check_number('Lookahead', 'alpha', alpha, 0, 1)
        check_choice('Lookahead', 'momentum', momentum, ['keep', 'reset', 'pullback'])
        self.k = k
        self.alpha = alpha
        self.momentum = momentum
        self.slow: dict[int, Tensor] = {}
        self.slow_momentum: dict[int, Tensor] = {}
        self.steps_since = 0

    def start(self, update: Update) -> None:
        """Copy the initial weights."""
        for position, param in enumerate(update.params):
            if param.requires_grad and position not in self.slow:
                self.slow[position] = param.detach().clone()

    def before_step(self, update: Update) -> None:
        """Copy newly unfrozen weights before their first step."""
        self.start(update)

    def after_step(self, update: Update) -> None:
        """Count the step; after k of them, move the slow weights and copy them to the fast ones."""
        self.steps_since += 1
        if self.steps_since < self.k:
            return
        self.steps_since = 0
        where = [i for i in sorted(self.slow) if update.params[i].requires_grad]  # what was frozen since stays
        slow, fast = local_parts(self.slow[i] for i in where), local_parts(update.params[i] for i in where)
        torch._foreach_lerp_(slow, fast, self.alpha)
        torch._foreach_copy_(fast, slow)
        if self.momentum != 'keep':
            self._move_momentum(update, where)

    def _move_momentum(self, update: Update, where: list[int]) -> None:
        found = momenta_of(update.optimizer, {i: update.params[i] for i in where})
        if not found:
            raise ValueError(
                f'Lookahead: expected an optimizer with momentum ({" or ".join(MOMENTA)}), for '
                f'momentum={self.momentum!r}, got {type(update.optimizer).__name__} without. Use '
                "momentum='keep', or give the optimizer a momentum."
            )
        if self.momentum == 'reset':
            torch._foreach_zero_(local_parts(found.values()))
            return
        for i, momentum in found.items():
            if i not in self.slow_momentum:
                self.slow_momentum[i] = torch.zeros_like(momentum)  # training started without
        slow, fast = local_parts(self.slow_momentum[i] for i in found), local_parts(found.values())
        torch._foreach_lerp_(slow, fast, self.alpha)
        torch._foreach_copy_(fast, slow)
