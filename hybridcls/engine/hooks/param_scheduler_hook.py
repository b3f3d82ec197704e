"""Step the schedules, including those that monitor a validation result."""

from collections.abc import Iterator
from typing import Any, Optional

from mmengine.hooks import ParamSchedulerHook as _ParamSchedulerHook

from hybridcls.registry import HOOKS

from ..config.schedules import by_optimizer
from ..runner.monitored_metric import check_monitor, monitored_result, rule_for
from ..runner.reduce_on_plateau import PlateauRule


@HOOKS.register_module()
class ParamSchedulerHook(_ParamSchedulerHook):
    """mmengine's ``ParamSchedulerHook``, which checks the names that ``ReduceOnPlateauLR`` and its kind monitor.

    Raises:
        ValueError: If no metric of the validation gives a ``monitor``: before the first step where all metrics say what
            they give, else at the first validation. (mmengine raises a KeyError after an epoch.)
    """

    def before_train(self, runner: Any) -> None:
        """Check the names, and choose the rules that the config leaves open."""
        for scheduler, caller in _waiting(runner):
            check_monitor(caller, scheduler.monitor, runner)
            if isinstance(scheduler, PlateauRule) and scheduler.rule_is_open and runner.val_loop is not None:
                scheduler.fill_rule(rule_for(caller, scheduler.monitor, runner))

    def after_val_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Step the schedules that monitor a result, unless its metric had nothing to compute."""
        if runner.iter == 0:  # runner.val() alone
            return
        results = [monitored_result(caller, one.monitor, runner, metrics or {})[0] for one, caller in _waiting(runner)]
        if None not in results:
            super().after_val_epoch(runner, metrics)


def _waiting(runner: Any) -> Iterator[tuple[Any, str]]:
    """Yield the schedules that monitor a validation result, with the name and key for errors."""
    for group in by_optimizer(runner.param_schedulers).values():
        for scheduler in group:
            if getattr(scheduler, 'need_val_args', False):
                yield scheduler, f'{type(scheduler).__name__}: monitor'
