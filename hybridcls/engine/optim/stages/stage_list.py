"""Build and check the list of stages from a config's ``stages``."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from mmengine.logging import print_log
from torch import nn

from hybridcls.checks import check_known_keys
from hybridcls.distributed.drawn_rows import has_row_gradient
from hybridcls.registry import OPTIM_STAGES
from hybridcls.signatures import arguments_of

from .update_stage import UpdateStage

__all__ = ['build_stages', 'warn_of_drawn_rows']

_MISSING = object()


def build_stages(caller: str, stages: Union[dict, Sequence, None]) -> dict[str, UpdateStage]:
    """Build the stages that a config names.

    Args:
        caller (str): Name that errors start with.
        stages (dict | Sequence, optional): ``{name: stage}``, so that a child config can change one number or switch
            one off (``name=None``), or a plain list. A stage is a dict with ``type``, or an instance.

    Returns:
        dict[str, UpdateStage]: In the order given, which is the order of visits; what is None is left out.

    Raises:
        TypeError: If a stage is nothing to build a stage from, has a wrong key, or names a state that it does not have.
        ValueError: If two stages are of one kind.

    Example:
        >>> build_stages('me', dict(sam=None, gc=dict(type='GradientCentralization'))).keys()
        dict_keys(['gc'])
    """
    if stages is None:
        return {}
    if isinstance(stages, dict):
        if isinstance(stages.get('type'), str):
            raise TypeError(
                f'{caller}: expected stages to be a dict of named stages, got one stage, {dict(stages)}. Give it a '
                f"name: stages=dict(mine=dict(type='{stages['type']}', ...))."
            )
        named = dict(stages)
    elif isinstance(stages, (list, tuple)):
        named = {f'stage{i}': stage for i, stage in enumerate(stages)}
    else:
        raise TypeError(
            f"{caller}: expected stages to be a dict of named stages, such as dict(sam=dict(type='SAM', rho=0.05)), or "
            f'a list of stages, got {stages!r}.'
        )
    built = {name: _build_stage(caller, name, stage) for name, stage in named.items() if stage is not None}
    for name, stage in built.items():
        _check_contract(f'{type(stage).__name__} (stages.{name})', stage)
    _check_kinds(caller, built)
    return built


def _build_stage(caller: str, name: str, stage: Any) -> UpdateStage:
    if isinstance(stage, UpdateStage):
        return stage
    if not isinstance(stage, dict) or 'type' not in stage:
        raise TypeError(
            f'{caller}: expected stages.{name} to be a dict with a type, an UpdateStage, or None to switch it off, got '
            f'{stage!r}.'
        )
    cfg = dict(stage)
    kind = cfg.pop('type')
    # Asked for by hand: Registry.build would look in the scope of the config first, and warn that it has no stages.
    cls = OPTIM_STAGES.get(kind) if isinstance(kind, str) else kind
    known, are_all = arguments_of(cls)
    if are_all:
        check_known_keys(f'{cls.__name__} (stages.{name})', cfg, known)
    built = cls(**cfg)
    if not isinstance(built, UpdateStage):
        raise TypeError(
            f'{caller}: expected stages.{name} to be a stage of an update, got a {cls.__name__}. Derive it from '
            'hybridcls.engine.optim.UpdateStage.'
        )
    return built


def _check_contract(caller: str, stage: UpdateStage) -> None:
    """Raise for mistakes in a stage that would only appear at the first checkpoint, or never."""
    for key, kinds, what in (
        ('tensor_state', dict, 'a dict of tensors by position'),
        ('number_state', (int, float, type(None)), 'a plain number'),
    ):
        names = getattr(stage, key)
        if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
            raise TypeError(
                f"{caller}: expected {key} to be a tuple of names such as ('slow',), got {names!r}. A tuple of one "
                'name needs its comma.'
            )
        for name in names:
            value = getattr(stage, name, _MISSING)
            if not isinstance(value, kinds):
                got = 'nothing' if value is _MISSING else type(value).__name__
                raise TypeError(
                    f'{caller}: expected the attribute {name} of {key} to be {what}, got {got}. Set it in __init__.'
                )
    if type(stage).needs_second_pass is not UpdateStage.needs_second_pass and not stage.has_second_pass:
        raise TypeError(
            f'{caller}: needs_second_pass is overridden, but second_pass, which uses the second gradient, is not. '
            'Override second_pass, and call update.recompute_gradient in it.'
        )


def _check_kinds(caller: str, stages: dict[str, UpdateStage]) -> None:
    first_of: dict[str, str] = {}
    probing: Optional[str] = None
    for name, stage in stages.items():
        if stage.kind in first_of:
            raise ValueError(
                f'{caller}: stages.{first_of[stage.kind]} ({type(stages[first_of[stage.kind]]).__name__}) and '
                f'stages.{name} ({type(stage).__name__}) are both of the kind {stage.kind!r}; an update has room for '
                f'one of them. Switch one off: stages=dict({name}=None).'
            )
        first_of[stage.kind] = name
        if stage.has_second_pass and probing is not None:
            raise ValueError(
                f'{caller}: stages.{probing} and stages.{name} both look for another gradient; an update has '
                f'room for one of them. Switch one off: stages=dict({name}=None).'
            )
        probing = name if stage.has_second_pass else probing


def warn_of_drawn_rows(stages: Mapping[str, UpdateStage], params: Sequence[nn.Parameter]) -> None:
    """Warn of stages of other packages in ``before_step``, where drawn rows have no gradient in ``update.params``."""
    if not any(has_row_gradient(param) for param in params):
        return
    for name, stage in stages.items():
        kind = type(stage)
        if kind.before_step is not UpdateStage.before_step and not kind.__module__.startswith('hybridcls.'):
            print_log(
                f'{kind.__name__} (stages.{name}): update_drawn_only=True of the head keeps the gradient of the drawn '
                'class weights from update.params in before_step, so update.with_gradient() leaves them out. They are '
                'in update.optimizer.param_groups, as rows. Set update_drawn_only=False if the stage must change all.',
                'current',
                logging.WARNING,
            )
