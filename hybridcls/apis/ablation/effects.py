"""Effects: the gain of each lever over all seeds, with its interval, p-value and verdict."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import numpy as np

from hybridcls.functional.metrics.paired_effects import PairedEffect, holm_adjusted, paired_effect, smallest_effect

from .arms import Arm
from .trainings import FAILURES_OF_AN_ARM, Training

__all__ = ['HARMFUL', 'MIXED', 'NOISE', 'WORTH', 'ArmEffect', 'Metric', 'effects_of']

WORTH, HARMFUL, NOISE, MIXED = 'worth it', 'harmful', 'within the noise', 'mixed'
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # relative, of a difference between two differences of metrics


class Metric(NamedTuple):
    """A validation metric by which arms are compared.

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
    """The gains, the cost and the verdict of one arm.

    Args:
        arm (Arm): The arm, compared with ``arm.against``.
        gains (dict[str, PairedEffect]): By metric: how much better, positive is better, whichever way the metric goes.
        adjusted (dict[str, float]): By metric: p-values, adjusted for all arms and metrics (Holm).
        could_show (dict[str, float]): By metric: the smallest true gain that these seeds find with a probability of
            80 % at the strictest level of Holm's; NaN where the differences show no spread.
        step_ratio (float, optional): Time of all steps, of all phases, over that of the arm that it is compared with.
        memory (float, optional): MiB more than that arm at most.
        failed (list[str]): A sentence for each seed with which the arm failed.
        against_failed (list[str]): The same of the arm that it is compared with.
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
    against_failed: list[str] = field(default_factory=list)
    verdict: str = NOISE
    sentence: str = ''


def effects_of(
    arms: Sequence[Arm], trainings: Sequence[Training], metrics: Sequence[Metric], level: float = 0.05
) -> list[ArmEffect]:
    """Compare the arms seed by seed, and judge all of them together.

    A lever is worth it if one metric is better and none worse, harmful if one is worse and none better, mixed if some
    are better and some worse, each at ``level`` after Holm's correction over all arms and metrics; else it is within
    the noise. An arm that failed with more seeds than that which it is compared with is harmful: no mean speaks for one
    that may fail. So is a lever without which all others fail with fewer seeds than with it. More than two failures
    count as two: after these the seeds of an arm are left out, and how many are running then is chance.

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
        effect.could_show[metric.key] = smallest_effect(gain.sd or math.nan, gain.pairs, level / len(tests))
    for effect in effects:
        _judge(effect, metrics, level)
    return effects


def _compared(arm: Arm, of_arm: dict[str, dict[int, Training]], metrics: Sequence[Metric], level: float) -> ArmEffect:
    own, other = of_arm[arm.name], of_arm[str(arm.against)]
    effect = ArmEffect(arm)
    effect.failed, effect.against_failed = _failures(own), _failures(other)
    usable = [
        seed for seed in own if seed in other and not any(one.failed or one.skipped for one in (own[seed], other[seed]))
    ]
    for metric in metrics:
        pairs = [(own[seed].metrics.get(metric.key), other[seed].metrics.get(metric.key)) for seed in usable]
        sign = (1 if metric.greater else -1) * (-1 if arm.is_loss else 1)
        values = [sign * (one - two) for one, two in pairs if one is not None and two is not None]
        if values:
            largest = max(abs(value) for pair in pairs for value in pair if value is not None)
            effect.gains[metric.key] = paired_effect(values, 1 - level, rounding=_ROUNDING * largest)
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


def _failures(of_seeds: Mapping[int, Training]) -> list[str]:
    return [f'seed {seed}: {one.failed}' for seed, one in of_seeds.items() if one.failed]


def _total(one: Training) -> float:
    return sum(cost['seconds'] * cost['steps'] for cost in one.costs)


def _memory(one: Training) -> Optional[float]:
    return max((cost['memory'] for cost in one.costs), default=None)


def _judge(effect: ArmEffect, metrics: Sequence[Metric], level: float) -> None:
    sure = [metric for metric in metrics if effect.adjusted.get(metric.key, math.nan) < level]
    better = [metric for metric in sure if effect.gains[metric.key].mean > 0]
    worse = [metric for metric in sure if effect.gains[metric.key].mean < 0]
    together = effect.arm.gains is None
    what = (
        f'{"All levers together" if together else effect.arm.gains}{", with all others," if effect.arm.is_loss else ""}'
    )
    verb, it = ('are', 'they') if together else ('is', 'it')
    failed, against_failed = (min(len(seeds), FAILURES_OF_AN_ARM) for seeds in (effect.failed, effect.against_failed))
    if failed > against_failed and not effect.arm.is_loss:
        effect.verdict = HARMFUL
        effect.sentence = f'{what} {verb} harmful here: {it} failed ({_shortened(effect.failed)}).'
        return
    if against_failed > failed and effect.arm.is_loss:  # what is left out made it fail
        effect.verdict = HARMFUL
        effect.sentence = (
            f'{what} {verb} harmful here: {effect.arm.against} failed ({_shortened(effect.against_failed)}), and '
            f'without {it} {f"fewer seeds did ({_shortened(effect.failed)})" if effect.failed else "none did"}.'
        )
        return
    effect.verdict = MIXED if better and worse else WORTH if better else HARMFUL if worse else NOISE
    told = sure or [metric for metric in metrics if metric.key in effect.gains]
    numbers = ' and '.join(_gain(effect, metric) for metric in told)
    if not effect.gains:
        effect.sentence = f'{what} cannot be judged: with no seed did both trainings end well.'
    elif effect.verdict != NOISE:
        effect.sentence = f'{what} {verb} {effect.verdict} here: {numbers}.'
    elif all(effect.gains[metric.key].mean == effect.gains[metric.key].sd == 0 for metric in told):
        ended = ' with which both ended well' if effect.failed or effect.against_failed else ''
        effect.sentence = (
            f'{what} {verb} within the noise: the numbers are those of {effect.arm.against}, with every seed{ended}.'
        )
    else:
        effect.sentence = f'{what} {verb} within the noise ({numbers}). {_could_show(effect, told)}'
    if effect.against_failed:
        effect.sentence += f' {effect.arm.against} itself failed ({_shortened(effect.against_failed)}).'
    if effect.failed and effect.arm.is_loss:
        effect.sentence += f' Without {it} {effect.arm.name} failed ({_shortened(effect.failed)}).'


def _shortened(failed: Sequence[str]) -> str:
    return '; '.join(one.partition('. ')[0] for one in failed)


def _could_show(effect: ArmEffect, metrics: Sequence[Metric]) -> str:
    if all(effect.gains[metric.key].pairs < 2 for metric in metrics):
        return 'One seed cannot show whether there is a difference.'
    least = []
    for metric in metrics:
        value = effect.could_show[metric.key]
        if metric.unit == 'points' and value > 100:
            least.append(f'no difference of {metric.name} (it would be more than 100 points)')
        elif not math.isnan(value):
            least.append(f'{_number(value)} {metric.unit} of {metric.name}')
    shown = f'These seeds could have shown {" or ".join(least)}.' if least else ''
    return shown or 'Equal differences do not show how much they vary: more seeds do.'


def _gain(effect: ArmEffect, metric: Metric) -> str:
    gain = effect.gains[metric.key]
    if gain.mean == gain.sd == 0:
        return f'{metric.name} the same with every seed'
    direction = 'better' if gain.mean >= 0 else 'worse'
    ends = sorted((abs(gain.low), abs(gain.high))) if gain.low * gain.high > 0 else None
    interval = f', {_number(ends[0])} to {_number(ends[1])}' if ends else '' if math.isnan(gain.low) else (
        f', from {_number(gain.low, "+")} to {_number(gain.high, "+")}'
    )  # fmt: skip
    return f'{metric.name} {_number(abs(gain.mean))} {metric.unit} {direction}{interval}'


def _number(value: float, sign: str = '') -> str:
    return f'{value:{sign}.0f}' if abs(value) >= 10 else f'{value:{sign}.2g}'


def to_json(effect: ArmEffect) -> dict[str, Any]:
    """Return an effect as a JSON-serializable dict."""
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
        against_failed=effect.against_failed,
        verdict=effect.verdict,
        sentence=effect.sentence,
    )
