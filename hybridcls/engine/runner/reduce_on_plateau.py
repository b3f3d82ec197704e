"""Schedules that monitor a validation result, and take its direction from the metric."""

from math import inf
from typing import Any, Optional

from mmengine.optim.scheduler import ReduceOnPlateauLR as _ReduceOnPlateauLR
from mmengine.optim.scheduler import ReduceOnPlateauMomentum as _ReduceOnPlateauMomentum
from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler as _ReduceOnPlateauParamScheduler

from hybridcls.registry import PARAM_SCHEDULERS
from hybridcls.renames import keeps_old_spellings

__all__ = ['PlateauRule', 'ReduceOnPlateauLR', 'ReduceOnPlateauMomentum', 'ReduceOnPlateauParamScheduler']


@keeps_old_spellings
class PlateauRule:
    """Mixin that lets a schedule leave ``rule`` open. (mmengine's default is ``'less'``.)"""

    monitor: str
    rule: str
    rule_worse: float
    best: float

    def __init__(self, *args: Any, rule: Optional[str] = None, **kwargs: Any) -> None:
        super().__init__(*args, rule=rule or 'less', **kwargs)  # type: ignore[call-arg]
        self.rule_is_open = rule is None

    def fill_rule(self, rule: str) -> None:
        """Set the metric's rule; ``best`` is kept unless the rule changes."""
        if rule != self.rule:
            self.rule = rule
            self.rule_worse = self.best = -inf if rule == 'greater' else inf


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauLR(PlateauRule, _ReduceOnPlateauLR):
    """mmengine's ``ReduceOnPlateauLR``; the metric sets an omitted ``rule``."""


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauMomentum(PlateauRule, _ReduceOnPlateauMomentum):
    """mmengine's ``ReduceOnPlateauMomentum``; the metric sets an omitted ``rule``."""


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauParamScheduler(PlateauRule, _ReduceOnPlateauParamScheduler):
    """mmengine's ``ReduceOnPlateauParamScheduler``; the metric sets an omitted ``rule``."""
