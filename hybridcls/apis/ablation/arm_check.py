"""Build the config and the model of every arm before the first training begins."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from hybridcls.engine import ConfigError, TrainOptions, is_chain, load_config
from hybridcls.engine.config.change import provenance_of
from hybridcls.engine.config.checkpoint_config import without_start
from hybridcls.engine.config.parts import check_parts
from hybridcls.engine.phases.plan import read_phases
from hybridcls.engine.training import complete
from hybridcls.registry import MODELS

from .arms import Arm, options_of_arm

__all__ = ['CheckedArms', 'check_arms']

ACCURACY = 'accuracy/top1'


class CheckedArms(NamedTuple):
    """Arms that can be trained.

    Args:
        left_out (dict[str, str]): Why arms of several levers are not trained, by name: their levers do not go together.
        contents (dict[str, str]): All that each one trains with, by its name: its configs with what they inherit.
        chance (Callable): From the metrics of a training to a sentence if they are not above those of a guess, else
            None.
    """

    left_out: dict[str, str]
    contents: dict[str, str]
    chance: Callable[[Mapping[str, float]], Optional[str]]


def check_arms(arms: Sequence[Arm], files: Mapping[str, Path], options: Mapping[str, Any]) -> CheckedArms:
    """Build the model and the optimizer of each arm.

    Args:
        arms (Sequence[Arm]): The arms.
        files (Mapping): The file of each, by its name.
        options (Mapping): Of the command line.

    Raises:
        ConfigError: If those of an arm of one lever, or of none, cannot be built; names the arm.
    """
    num_classes: Optional[int] = None
    contents: dict[str, str] = {}
    left_out = {arm.name: arm.conflict for arm in arms if arm.conflict}
    for arm in arms:
        if arm.name in left_out:
            continue
        file = str(files[arm.name])
        given = options_of_arm(file, options)
        cfg = load_config(file, given)
        phases = [(phase.config, phase.options) for phase in read_phases(cfg)] if is_chain(cfg) else [(file, given)]
        parts = [cfg.to_dict()]
        for one in [load_config(*phase) for phase in phases]:
            parts.append(one.to_dict())
            try:
                complete(one, TrainOptions())
                check_parts(one)
                unread = provenance_of(one).unread
                if unread:  # a mistyped lever would be a useless one
                    raise ConfigError(f'nothing reads {unread[0]}.')
                with DefaultScope.overwrite_default_scope('hybridcls'):
                    model = MODELS.build(without_start(dict(one.model), False))
                    build_optim_wrapper(model, deepcopy(one.optim_wrapper))
            except (ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
                if len(arm.levers) > 1:
                    left_out[arm.name] = f'its levers do not go together: {error}'
                    break
                raise ConfigError(f'ablate: the arm {arm.name} cannot be trained: {error}') from error
            num_classes = getattr(getattr(model, 'head', None), 'num_classes', None) or num_classes
        contents[arm.name] = json.dumps(parts, sort_keys=True, default=repr)

    def chance(metrics: Mapping[str, float]) -> Optional[str]:
        accuracy = metrics.get(ACCURACY)
        if accuracy is None or num_classes is None or accuracy > 100 / num_classes:
            return None
        return f'accuracy {accuracy:.3g} % is no better than chance ({100 / num_classes:.3g} %)'

    # Without the arm of all, nothing is there to compare all but one with.
    left_out.update({arm.name: left_out[arm.against] for arm in arms if arm.against in left_out})
    return CheckedArms(left_out, contents, chance)
