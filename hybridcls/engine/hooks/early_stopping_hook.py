"""End a training that has stopped to improve."""

from math import inf, isinf
from typing import Any, Optional

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook

from hybridcls.registry import HOOKS
from hybridcls.renames import keeps_old_spellings

from ..runner.monitored_metric import check_monitor, monitored_result, rule_for

_CALLER = 'EarlyStoppingHook: monitor'


@HOOKS.register_module()
@keeps_old_spellings
class EarlyStoppingHook(_EarlyStoppingHook):
    """mmengine's ``EarlyStoppingHook``, with all of its options, which asks the metrics whether greater or less is
    better.

    A ``monitor`` that no metric gives is an error: before the first step where all metrics say what they give
    (:mod:`hybridcls.evaluation.result_names`), else at the first validation. (mmengine warns, and trains to the end.) A
    metric with nothing to compute is a warning, or with ``strict=True`` an error.

    Args:
        monitor (str): A result of the validation, such as ``'calibration/nll'``.
        rule (str, optional): ``'greater'`` or ``'less'``. Defaults to None: as the metric says.
        min_delta (float), strict (bool), check_finite (bool), patience (int), stopping_threshold (float, optional): As
            in mmengine, where ``min_delta`` is 0.1.

    Raises:
        ValueError: Before or at the first validation: the result is unknown, or which way is better.
    """

    rule: str
    best_score: float

    def __init__(self, monitor: str, rule: Optional[str] = None, min_delta: float = 0.1, **kwargs: Any) -> None:
        super().__init__(monitor, rule or 'greater', min_delta, **kwargs)
        self._rule_is_open = rule is None
        self._min_delta = min_delta

    def before_run(self, runner: Any) -> None:
        """Build nothing: mmengine's looks at the training here, in a test too, whose images may be others or gone."""

    def before_train(self, runner: Any) -> None:
        """Check the name, and choose the rule where the config leaves it open."""
        super().before_run(runner)
        check_monitor(_CALLER, self.monitor, runner)
        if self._rule_is_open and runner.val_loop is not None:
            rule = rule_for(_CALLER, self.monitor, runner)
            if rule != self.rule:
                self.rule = rule
                self.min_delta = self._min_delta if rule == 'greater' else -self._min_delta
                if isinf(self.best_score):  # else a resumed one
                    self.best_score = -inf if rule == 'greater' else inf

    def after_val_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Decide whether to stop."""
        if runner.iter == 0:  # runner.val() alone
            return
        result, sentence = monitored_result(_CALLER, self.monitor, runner, metrics or {})
        if result is not None:
            super().after_val_epoch(runner, metrics)
        elif self.strict:
            raise ValueError(f'{sentence} (strict=True)')
