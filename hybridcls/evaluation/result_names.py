"""Read the direction and the unit of a metric's results, and why a result is missing."""

import logging
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Optional, Protocol

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

__all__ = [
    'MetricDeclarations', 'described', 'direction_of', 'is_without_result', 'known_names', 'metric_of',
    'reason_for_no_result', 'unit_of', 'without_result',
]  # fmt: skip


class MetricDeclarations(Protocol):
    """The declarations of a metric about its results, in any package; mmengine's ``BaseMetric`` is the base.

    ``save_best``, ``EarlyStoppingHook``, ``ReduceOnPlateauLR`` and the learning curves read the declarations. A name
    stands without the metric's prefix and may be a pattern (``'top*'``)::

        @METRICS.register_module()
        class BrierScore(BaseMetric):
            default_prefix = 'brier'
            directions = {'mean': 'less', 'worst': 'less'}
            units = {}

    Attributes:
        directions (Mapping[str, str | None]): ``'greater'``, ``'less'`` or None (neither way is better) for every
            result that the metric can give, so that a mistyped name is found before the first step of a training.
        units (Mapping[str, str]): ``'%'``, ``'nats'`` or another unit.
    """

    directions: Mapping[str, Optional[str]]
    units: Mapping[str, str]


def metric_of(name: str, metrics: Iterable[BaseMetric]) -> Optional[BaseMetric]:
    """Return the first metric whose ``directions`` have the result ``name`` (prefix included)."""
    for metric in metrics:
        own = _without_prefix(name, metric)
        if own is not None and any(fnmatchcase(own, pattern) for pattern in getattr(metric, 'directions', ())):
            return metric
    return None


def direction_of(name: str, metrics: Iterable[BaseMetric]) -> Optional[str]:
    """Return ``'greater'`` or ``'less'``, whichever is better for the result ``name``; None if not declared.

    Example:
        >>> from hybridcls.evaluation import CalibrationMetric
        >>> direction_of('calibration/ece', [CalibrationMetric()])
        'less'
    """
    metric = metric_of(name, metrics)
    return None if metric is None else _look_up(metric.directions, _without_prefix(name, metric))


def unit_of(name: str, metrics: Iterable[BaseMetric]) -> Optional[str]:
    """Return the unit of the result ``name``, such as ``'%'`` or ``'nats'``; None if not declared."""
    metric = metric_of(name, metrics)
    return None if metric is None else _look_up(getattr(metric, 'units', {}), _without_prefix(name, metric))


def described(results: Iterable[str], metrics: Iterable[BaseMetric]) -> dict[str, dict[str, str]]:
    """Return the unit and the direction of each result, as far as its metric declares them.

    Those of corrupted images (``corruption/blur_3/accuracy/top1``) are as those of the images themselves, and the ends
    of an interval (``top1_low``), which are left out, as the result between them.

    Example:
        >>> from hybridcls.evaluation import CalibrationMetric
        >>> described(['calibration/nll'], [CalibrationMetric()])
        {'calibration/nll': {'unit': 'nats', 'better': 'less'}}
    """
    metrics = list(metrics)
    found = {}
    results = list(results)
    ends = {f'{result}_{end}' for result in results for end in ('low', 'high')}
    for result in [result for result in results if result not in ends]:
        name = result.split('/', 2)[2] if result.startswith('corruption/') else result
        parts = dict(unit=unit_of(name, metrics), better=direction_of(name, metrics))
        found[result] = {key: value for key, value in parts.items() if value is not None}
    return {result: parts for result, parts in found.items() if parts}


def known_names(metrics: Iterable[BaseMetric]) -> Optional[list[str]]:
    """Return the names (or patterns) of all possible results; None if a metric does not declare them.

    Raises:
        TypeError: If a metric's ``directions`` are not those of :class:`MetricDeclarations`.
    """
    metrics = list(metrics)
    if not all(hasattr(metric, 'directions') for metric in metrics):
        return None
    for metric in metrics:
        if not isinstance(metric.directions, Mapping) or {*metric.directions.values()} - {'greater', 'less', None}:
            raise TypeError(
                f"{type(metric).__name__}: expected directions that map each result to 'greater', 'less' or None, got "
                f'{metric.directions!r}.'
            )
    return [f'{metric.prefix}/{name}' if metric.prefix else name for metric in metrics for name in metric.directions]


def without_result(metric: BaseMetric, why: str, names: Iterable[str] = ()) -> dict[str, float]:
    """Return an empty result and log why, once for each reason.

    Args:
        metric (BaseMetric): The metric; keeps the reason for :func:`reason_for_no_result`.
        why (str): What is missing, and what to do.
        names (Iterable[str]): The missing results, without prefix. Defaults to all.
    """
    if getattr(metric, 'no_result', None) != why:
        of = ', '.join(names)
        print_log(f'{type(metric).__name__}: no {of or "result"}. {why}', 'current', logging.WARNING)
    metric.no_result = why
    return {}


def is_without_result(name: str, metrics: Iterable[BaseMetric], results: Collection[str]) -> bool:
    """Return whether ``name`` is missing from ``results`` because its metric had nothing to compute.

    The same in all processes. A name that matches only a pattern such as ``'*loss*'`` is an error if the metric has
    other results.
    """
    metric = metric_of(name, metrics)
    if metric is None or name in results:
        return False
    given = any(metric_of(result, [metric]) is not None for result in results)
    return _without_prefix(name, metric) in metric.directions or not given


def reason_for_no_result(name: str, metrics: Iterable[BaseMetric]) -> str:
    """Return why the result ``name`` is missing, or an empty string. (Only in the main process.)"""
    metric = metric_of(name, metrics)
    why = getattr(metric, 'no_result', '')
    return f'{type(metric).__name__}: {why}' if why else ''


def _without_prefix(name: str, metric: BaseMetric) -> Optional[str]:
    prefix = f'{metric.prefix}/' if metric.prefix else ''
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _look_up(table: Mapping[str, Optional[str]], name: Optional[str]) -> Optional[str]:
    return next((value for pattern, value in table.items() if fnmatchcase(name or '', pattern)), None)
