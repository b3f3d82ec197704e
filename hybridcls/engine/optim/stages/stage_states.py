"""Save and load the states of all stages."""

import logging
from collections.abc import Mapping
from typing import Any, Optional

from mmengine.logging import print_log

from ..update.update import Update
from .update_stage import UpdateStage

__all__ = ['load_stages', 'pack_stages', 'restart_stages']


def pack_stages(stages: Mapping[str, UpdateStage], update: Optional[Update]) -> tuple[dict, dict]:
    """Return the numbers, ``{stage: dict(type=, numbers=)}``, and the tensors, ``{stage: {name: {position: Tensor}}}``.

    Raises:
        ValueError: If a value could not be loaded again; seen once training has begun.
    """
    numbers, tensors = {}, {}
    for name, stage in stages.items():
        if update is not None:
            stage.check_state(update)
        own = stage.state_dict()
        numbers[name] = dict(type=type(stage).__name__, numbers=own['numbers'])
        tensors[name] = own['tensors']
    return numbers, tensors


def load_stages(caller: str, stages: Mapping[str, UpdateStage], numbers: dict, tensors: dict, params: list) -> None:
    """Load a state from :func:`pack_stages`, and log what is missing or left over."""
    for name, stage in stages.items():
        if numbers.get(name, {}).get('type') == type(stage).__name__:
            stage.load_state_dict(dict(numbers=numbers[name]['numbers'], tensors=tensors.get(name, {})), params)
        elif stage.tensor_state or stage.number_state:
            _warn(
                f'{caller}: the checkpoint has no state of stages.{name} ({type(stage).__name__}); the stage starts '
                'now, from the current weights.'
            )
    for name, saved in numbers.items():
        if name not in stages and (saved['numbers'] or tensors.get(name)):
            _warn(
                f'{caller}: the checkpoint has a state of stages.{name} ({saved["type"]}), which this run does not '
                'have; it is left out.'
            )


def restart_stages(
    caller: str, stages: Mapping[str, UpdateStage], initial: Mapping[str, dict[str, Any]], params: list
) -> None:
    """Discard a loaded state that belongs to other weights, and log it."""
    for name, stage in stages.items():
        if any(getattr(stage, key) for key in stage.tensor_state):
            stage.load_state_dict(initial[name], params)
            _warn(
                f'{caller}: the state of stages.{name} ({type(stage).__name__}) in the checkpoint belongs to other '
                'weights than those beside it: another optimizer wrapper has trained in between. The stage starts '
                'now, from the current weights.'
            )


def _warn(text: str) -> None:
    print_log(text, 'current', level=logging.WARNING)
