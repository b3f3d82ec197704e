"""Look up the validation result that ``save_best``, early stopping or a schedule monitors."""

import logging
from collections.abc import Mapping
from typing import Any, Optional

from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.logging import print_log

from hybridcls.checks import did_you_mean
from hybridcls.evaluation.result_names import (
    direction_of,
    is_without_result,
    known_names,
    metric_of,
    reason_for_no_result,
)

__all__ = ['check_monitor', 'monitored_result', 'rule_for', 'validation_metrics']


def validation_metrics(runner: Any) -> list[BaseMetric]:
    """Return the metrics of the validation; an empty list without a validation."""
    return list(getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', []))


def check_monitor(caller: str, name: str, runner: Any) -> None:
    """Raise, before the first step, if no metric of the validation can return the result ``name``.

    Metrics that do not say what they give (:mod:`hybridcls.evaluation.result_names`) leave the question to the first
    validation.

    Args:
        caller (str): The hook and its key, such as ``"CheckpointHook: save_best"``.

    Raises:
        ValueError: Names what the metrics give.
    """
    metrics = validation_metrics(runner)
    known = known_names(metrics)
    if metrics and known is not None and metric_of(name, metrics) is None:
        raise _unknown(caller, name, known)


def rule_for(caller: str, name: str, runner: Any) -> str:
    """Return ``'greater'`` or ``'less'``, as the metric declares, else as mmengine infers from the name.

    Raises:
        ValueError: If neither knows.
    """
    rule = direction_of(name, validation_metrics(runner)) or guessed_rule(name)
    if rule is None:
        raise ValueError(
            f"{caller}={name!r}: it is unknown whether greater or less is better. Add rule='greater' or rule='less' "
            'beside it, or the attribute directions to its metric.'
        )
    return rule


def guessed_rule(name: str) -> Optional[str]:
    """Return mmengine's rule for a name: ``'less'`` for names with ``loss``, ``'greater'`` for ``acc``, ``top``, ..."""
    try:
        return EarlyStoppingHook(name).rule
    except ValueError:
        return None


def monitored_result(caller: str, name: str, runner: Any, results: Mapping[str, Any]) -> tuple[Any, str]:
    """Look up the monitored result after a validation.

    Returns:
        tuple[Any, str]: The result and ``''``; or None and a sentence, where the metric had nothing to compute (logged,
        once a run for each reason).

    Raises:
        ValueError: If no metric gives it; names the results that there are.
    """
    if name in results:
        return results[name], ''
    metrics = validation_metrics(runner)
    if name == 'auto':
        why = ' '.join(filter(None, (getattr(metric, 'no_result', '') for metric in metrics)))
    elif is_without_result(name, metrics, results):
        why = reason_for_no_result(name, metrics)
    else:
        raise _unknown(caller, name, list(results))
    sentence = f'{caller}={name!r} had no result in the validation. {why}'.strip()
    if runner.message_hub.runtime_info.get(f'no_result/{caller}={name}') != sentence:
        runner.message_hub.update_info(f'no_result/{caller}={name}', sentence)
        print_log(sentence, 'current', logging.WARNING)
    return None, sentence


def _unknown(caller: str, name: str, names: list[str]) -> ValueError:
    there = ', '.join(names) or 'none'
    return ValueError(f'{caller}={name!r} is not a metric of the validation: {there}.{did_you_mean(name, names)}')
