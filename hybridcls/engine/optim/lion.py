"""timm's Lion, registered under the name that a config uses."""

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from hybridcls.registry import OPTIMIZERS

__all__ = ['Lion']


@OPTIMIZERS.register_module()
def Lion(params: Iterable, **settings: Any) -> Optimizer:
    """Build timm's `Lion <https://arxiv.org/abs/2302.06675>`_: the sign of an interpolated momentum, decoupled decay.

    Its learning rate is about a tenth to a third of AdamW's, its weight decay as much larger.

    Args:
        params (Iterable): Parameters or groups of them.
        **settings: Those of ``timm.optim.Lion``: ``lr``, ``betas``, ``weight_decay``, ``caution``, ...

    Example:
        >>> import torch
        >>> type(OPTIMIZERS.build(dict(type='Lion', params=[torch.nn.Parameter(torch.ones(1))], lr=1e-4))).__name__
        'Lion'
    """
    from timm.optim import Lion as TimmLion  # here, since timm takes seconds that most trainings do not need

    return TimmLion(params, **settings)
