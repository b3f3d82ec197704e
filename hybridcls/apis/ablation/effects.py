"""What the trainings of an ablation say of each lever."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from hybridcls.functional.metrics.paired_effects import PairedEffect, holm_adjusted, paired_effect, smallest_effect

from .arms import Arm
from .trainings import Training

__all__ = ['HARMFUL', 'MIXED', 'NOISE', 'WORTH', 'ArmEffect', 'Metric', 'effects_of']

WORTH, HARMFUL, NOISE, MIXED = 'worth it', 'harmful', 'within the noise', 'mixed'


class Metric(NamedTuple):
    """What arms are judged by.

    Args:
        key (str): Its name in the results of a validation.
        name (str): For tables.
        unit (str): ``'points'`` (of percent), ``'nats'``; what a difference is measured in.
        greater (bool): Whether greater is better.
    """

    key: str
    name: str
    unit: str
    greater: bool


@dataclass
class ArmEffect:
    """What an arm shows.

    Args:
        arm (Arm): The arm, compared with ``arm.against``.
        gains (dict[str, PairedEffect]): By metric: how much better, positive is better, whichever way the metric goes.
        adjusted (dict[str, float]): By metric: p-values, adjusted for all arms and metrics (Holm).
        could_show (dict[str, float]): By metric: the smallest true gain that these seeds find with a probability of
            80 % at the strictest level of Holm's.
        step_ratio (float, optional): Time of all steps, of all phases, over that of the arm that it is compared with.
        memory (float, optional): MiB more than that arm at most.
        failed (list[str]): A sentence for each seed with which the arm, or that which it is compared with, failed.
        verdict (str): ``'worth it'``, ``'harmful'``, ``'within the noise'`` or ``'mixed'``.
        sentence (str): The verdict with its numbers.
    """

    arm: Arm
    gains: dict[str, PairedEffect] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)
    could_show: dict[str, float] = field(default_factory=dict)
    step_ratio: Optional[float] = None
    memory: Optional[float] = None
    failed: list[str] = field(default_factory=list)
    verdict: str = NOISE
    sentence: str = ''


def effects_of(
    arms: Sequence[Arm], trainings: Sequence[Training], metrics: Sequence[Metric], level: float = 0.05
) -> list[ArmEffect]:
    """Compare the arms seed by seed, and judge all of them together.

    A lever is worth it if one metric is better and none worse, harmful if one is worse and none better, mixed if some
    are better and some worse, each at ``level`` after Holm's correction over all arms and metrics; else it is within
    the noise. An arm that failed with a seed is harmful: no mean speaks for one that may fail.

    Args:
        arms (Sequence[Arm]): All arms.
        trainings (Sequence[Training]): All trainings.
        metrics (Sequence[Metric]): At least one.
        level (float): In (0, 1). Defaults to 0.05.
    """
    of_arm: dict[str, dict[int, Training]] = {}
    for one in trainings:
        of_arm.setdefault(one.arm, {})[one.seed] = one
    effects = [_compared(arm, of_arm, metrics, level) for arm in arms if arm.against is not None]
    tests = [(effect, metric) for effect in effects for metric in metrics if metric.key in effect.gains]
    adjusted = holm_adjusted([effect.gains[metric.key].p_value for effect, metric in tests])
    for (effect, metric), value in zip(tests, adjusted, strict=True):
        effect.adjusted[metric.key] = value
        gain = effect.gains[metric.key]
        effect.could_show[metric.key] = smallest_effect(gain.sd, gain.pairs, level / len(tests))
    for effect in effects:
        _judge(effect, metrics, level)
    return effects


def _compared(arm: Arm, of_arm: dict[str, dict[int, Training]], metrics: Sequence[Metric], level: float) -> ArmEffect:
    own, other = of_arm[arm.name], of_arm[str(arm.against)]
    effect = ArmEffect(arm)
    effect.failed = [f'seed {seed}: {one.failed}' for seed, one in own.items() if one.failed]
    usable = [
        seed for seed in own if seed in other and not any(one.failed or one.skipped for one in (own[seed], other[seed]))
    ]
    for metric in metrics:
        pairs = [(own[seed].metrics.get(metric.key), other[seed].metrics.get(metric.key)) for seed in usable]
        sign = (1 if metric.greater else -1) * (-1 if arm.is_loss else 1)
        values = [sign * (one - two) for one, two in pairs if one is not None and two is not None]
        if values:
            effect.gains[metric.key] = paired_effect(values, 1 - level)
    times = [(_total(own[seed]), _total(other[seed])) for seed in usable]
    ratios = [one / two for one, two in times if one and two]
    if ratios:
        ratio = statistics.median(ratios)
        effect.step_ratio = 1 / ratio if arm.is_loss else ratio
    memory = [(_memory(own[seed]), _memory(other[seed])) for seed in usable]
    more = [one - two for one, two in memory if one is not None and two is not None]
    if more:
        effect.memory = statistics.median(more) * (-1 if arm.is_loss else 1)
    return effect


def _total(one: Training) -> float:
    return sum(cost['seconds'] * cost['steps'] for cost in one.costs)


def _memory(one: Training) -> Optional[float]:
    return max((cost['memory'] for cost in one.costs), default=None)


def _judge(effect: ArmEffect, metrics: Sequence[Metric], level: float) -> None:
    sure = [metric for metric in metrics if effect.adjusted.get(metric.key, math.nan) < level]
    better = [metric for metric in sure if effect.gains[metric.key].mean > 0]
    worse = [metric for metric in sure if effect.gains[metric.key].mean < 0]
    what = 'All levers together' if effect.arm.gains is None else effect.arm.gains
    beside = ', with all others,' if effect.arm.is_loss else ''
    if effect.failed and not effect.arm.is_loss:
        effect.verdict = HARMFUL
        effect.sentence = f'{what}{beside} is harmful here: it failed ({"; ".join(effect.failed)}).'
        return
    effect.verdict = MIXED if better and worse else WORTH if better else HARMFUL if worse else NOISE
    told = sure or [metric for metric in metrics if metric.key in effect.gains]
    numbers = ' and '.join(_gain(effect, metric) for metric in told)
    verb = 'are' if effect.arm.gains is None else 'is'
    if not effect.gains:
        effect.sentence = f'{what}{beside} cannot be judged: with no seed did both trainings end well.'
    elif effect.verdict == NOISE:
        least = ' or '.join(
            f'{effect.could_show[metric.key]:.2g} {metric.unit} of {metric.name}'
            for metric in told
            if not math.isnan(effect.could_show[metric.key])
        )
        shown = f' These seeds could have shown {least}.' if least else ' One seed shows no difference.'
        effect.sentence = f'{what}{beside} {verb} within the noise ({numbers}).{shown}'
    else:
        effect.sentence = f'{what}{beside} {verb} {effect.verdict} here: {numbers}.'


def _gain(effect: ArmEffect, metric: Metric) -> str:
    gain = effect.gains[metric.key]
    direction = 'better' if gain.mean >= 0 else 'worse'
    ends = sorted((abs(gain.low), abs(gain.high))) if gain.low * gain.high > 0 else None
    interval = f', {ends[0]:.2g} to {ends[1]:.2g}' if ends else '' if math.isnan(gain.low) else (
        f', from {gain.low:+.2g} to {gain.high:+.2g}'
    )  # fmt: skip
    return f'{metric.name} {abs(gain.mean):.2g} {metric.unit} {direction}{interval}'


def to_json(effect: ArmEffect) -> dict[str, Any]:
    """Return an effect in JSON's types."""
    return dict(
        arm=effect.arm.name,
        levers=list(effect.arm.levers),
        against=effect.arm.against,
        lever=effect.arm.gains,
        gains={key: gain._asdict() for key, gain in effect.gains.items()},
        adjusted_p=effect.adjusted,
        could_show=effect.could_show,
        step_time_ratio=effect.step_ratio,
        memory_mib=effect.memory,
        failed=effect.failed,
        verdict=effect.verdict,
        sentence=effect.sentence,
    )
