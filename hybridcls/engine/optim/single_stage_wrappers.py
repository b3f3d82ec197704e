"""ComposedOptimWrapper with one stage, whose settings are keys of the wrapper itself."""

from typing import Any, ClassVar

import torch

from hybridcls.checks import check_known_keys
from hybridcls.registry import OPTIM_WRAPPERS
from hybridcls.renames import keeps_old_spellings
from hybridcls.signatures import arguments_of

from .composed_optim_wrapper import ComposedOptimWrapper
from .stages import MSAM, SAM, FriendlySAM, GradientCentralization, Lookahead, UpdateStage

__all__ = [
    'FriendlySAMOptimWrapper', 'GCOptimWrapper', 'LookaheadOptimWrapper', 'MSAMOptimWrapper', 'SAMOptimWrapper',
]  # fmt: skip


@keeps_old_spellings
class _SingleStageWrapper(ComposedOptimWrapper):
    """Separate the keys of the stage from those of the wrapper."""

    stage_name: ClassVar[str]
    stage_type: ClassVar[type[UpdateStage]]

    def __init__(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> None:
        of_stage, _ = arguments_of(self.stage_type)
        of_wrapper = [key for key in arguments_of(ComposedOptimWrapper)[0] if key not in ('optimizer', 'stages')]
        if 'stages' in kwargs:
            raise TypeError(
                f'{type(self).__name__}: stages={kwargs["stages"]!r} is a key of ComposedOptimWrapper; this wrapper '
                f'has the stage {self.stage_type.__name__}, with the keys {", ".join(of_stage)}.'
            )
        check_known_keys(type(self).__name__, kwargs, [*of_stage, *of_wrapper])
        stage = self.stage_type(**{key: kwargs.pop(key) for key in of_stage if key in kwargs})
        super().__init__(optimizer, stages={self.stage_name: stage}, **kwargs)


@OPTIM_WRAPPERS.register_module()
class SAMOptimWrapper(_SingleStageWrapper):
    """ComposedOptimWrapper with the stage :class:`SAM`: ``dict(type='SAMOptimWrapper', rho=0.05, optimizer=...)``.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer; in a config, a dict.
        **kwargs: Keys of :class:`SAM` and of :class:`ComposedOptimWrapper`. A checkpoint of one fits the other, if
            the stage is called ``sam`` there.

    Raises:
        TypeError: For keys that neither has.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> SAMOptimWrapper(optimizer, rho=0.1, accumulative_counts=2).stages['sam'].rho
        0.1
    """

    stage_name = 'sam'
    stage_type = SAM


@OPTIM_WRAPPERS.register_module()
class MSAMOptimWrapper(_SingleStageWrapper):
    """ComposedOptimWrapper with the stage :class:`MSAM`: ``dict(type='MSAMOptimWrapper', rho=3.0, optimizer=...)``.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer, one with momentum; in a config, a dict.
        **kwargs: Keys of :class:`MSAM` and of :class:`ComposedOptimWrapper`; the stage is called ``msam``.

    Raises:
        TypeError: For keys that neither has.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1, momentum=0.9)
        >>> MSAMOptimWrapper(optimizer, rho=3.0).stages
        {'msam': MSAM(rho=3.0, start_epoch=0)}
    """

    stage_name = 'msam'
    stage_type = MSAM


@OPTIM_WRAPPERS.register_module()
class FriendlySAMOptimWrapper(_SingleStageWrapper):
    """ComposedOptimWrapper with :class:`FriendlySAM`: ``dict(type='FriendlySAMOptimWrapper', rho=0.2, ...)``.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer; in a config, a dict.
        **kwargs: Keys of :class:`FriendlySAM` and of :class:`ComposedOptimWrapper`; the stage is called
            ``friendly_sam``.

    Raises:
        TypeError: For keys that neither has.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> FriendlySAMOptimWrapper(optimizer, lmbda=0.6).stages['friendly_sam'].lmbda
        0.6
    """

    stage_name = 'friendly_sam'
    stage_type = FriendlySAM


@OPTIM_WRAPPERS.register_module()
class LookaheadOptimWrapper(_SingleStageWrapper):
    """ComposedOptimWrapper with :class:`Lookahead`: ``dict(type='LookaheadOptimWrapper', k=5, alpha=0.5, ...)``.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer; in a config, a dict.
        **kwargs: Keys of :class:`Lookahead` and of :class:`ComposedOptimWrapper`; the stage is called ``lookahead``.

    Raises:
        TypeError: For keys that neither has.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> LookaheadOptimWrapper(optimizer, k=6).stages
        {'lookahead': Lookahead(k=6, alpha=0.5, momentum='keep')}
    """

    stage_name = 'lookahead'
    stage_type = Lookahead


@OPTIM_WRAPPERS.register_module()
class GCOptimWrapper(_SingleStageWrapper):
    """ComposedOptimWrapper with :class:`GradientCentralization`: ``dict(type='GCOptimWrapper', layers='conv', ...)``.

    Args:
        optimizer (torch.optim.Optimizer): The optimizer; in a config, a dict.
        **kwargs: Keys of :class:`GradientCentralization` and of :class:`ComposedOptimWrapper`; the stage is called
            ``gc``.

    Raises:
        TypeError: For keys that neither has.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> GCOptimWrapper(optimizer, layers='conv').stages['gc'].layers
        'conv'
    """

    stage_name = 'gc'
    stage_type = GradientCentralization
