"""Learning rate range test: train some steps with a rising rate, and find where the loss falls fastest."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from mmengine.optim import OptimWrapper

from .finding import NOTE, WARNING, Finding

__all__ = ['RateCurve', 'rate_curve', 'rate_findings']

_LOWEST, _HIGHEST = 1e-6, 1.0
_STEPS, _FEWEST_STEPS = 100, 20
_CERTAIN = 4.0  # standard deviations of the mean of a window, of which the lowest of many is taken
_DIVERGED = 3.0  # times the fall so far, above the start


@dataclass(frozen=True)
class RateCurve:
    """Loss by learning rate.

    Args:
        rates (list[float]): Of the first parameter group that has the config's rate; rising by a constant factor.
        losses (list[float]): Of the step with each rate, before that step's update.
        smoothed (list[float]): The same, without the noise of single batches.
        suggested (float, optional): Where the loss falls fastest; None: it does not fall.
        diverges (float, optional): Where it rises above what it was at the start; None: it never does.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: Optional[float]
    diverges: Optional[float]


def rate_curve(
    step: Callable[[Any], float],
    optim_wrapper: OptimWrapper,
    batches: Iterable[Any],
    rate: float,
    steps: int = _STEPS,
    lowest: float = _LOWEST,
    highest: float = _HIGHEST,
) -> RateCurve:
    """Train with a learning rate that rises each step until the loss diverges.

    The range test of `Smith <https://arxiv.org/abs/1506.01186>`_, section 3.3.

    The parameter groups keep the ratios of their rates. Weights and the state of the optimizer change: what is to be
    left as it was has to be a copy.

    Args:
        step (Callable): Trains with a batch, and returns the loss.
        optim_wrapper (OptimWrapper): Whose rates are set.
        batches (Iterable): As many as steps, or fewer.
        rate (float): The rate of the config, to which those of the groups are relative.
        steps (int): Defaults to 100.
        lowest (float): The first rate. Defaults to 1e-6.
        highest (float): The last rate. Defaults to 1.
    """
    groups = optim_wrapper.optimizer.param_groups
    ratios = [group.get('initial_lr', group['lr']) / rate for group in groups]
    rates: list[float] = []
    losses: list[float] = []
    for number, batch in zip(range(steps), batches, strict=False):
        now = lowest * (highest / lowest) ** (number / max(1, steps - 1))
        for group, ratio in zip(groups, ratios, strict=True):
            group['lr'] = now * ratio
        try:
            loss = step(batch)
        except (ValueError, FloatingPointError):  # a loss that is not finite stops an update of hybridcls
            loss = math.nan
        if not math.isfinite(loss):
            break
        rates.append(now)
        losses.append(loss)
        if len(losses) > 5 and losses[-1] > losses[0] + _DIVERGED * max(losses[0] - min(losses), 0.1 * abs(losses[0])):
            break
    return _read(rates, losses, len(rates) < steps)


def _read(rates: list[float], losses: list[float], has_ended: bool) -> RateCurve:
    if len(losses) < 5:
        return RateCurve(rates, losses, losses, None, rates[-1] if rates and has_ended else None)
    width = max(3, len(losses) // 12)
    smoothed = _smoothed(np.array(losses), width)
    lowest = int(smoothed.argmin())
    start = float(np.median(losses[: max(3, len(losses) // 5)]))
    noise = float(np.std(losses[: max(3, len(losses) // 5)]))
    falls = start - smoothed[lowest] > max(0.02 * abs(start), _CERTAIN * noise / math.sqrt(width))
    suggested = None
    if falls and lowest > 1:
        slope = np.gradient(smoothed, np.log(rates))
        suggested = float(rates[int(slope[: lowest + 1].argmin())])
    above = [number for number in range(lowest, len(rates)) if smoothed[number] > start + 3 * noise + 0.02 * abs(start)]
    diverges = rates[above[0]] if above else rates[-1] if has_ended else None
    return RateCurve(rates, losses, smoothed.tolist(), suggested, diverges)


def _smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Return the moving average around each value, with shorter windows at the ends."""
    before = np.concatenate([[0.0], np.cumsum(values)])
    half = width // 2
    ends = [(max(0, number - half), min(len(values), number + half + 1)) for number in range(len(values))]
    return np.array([(before[last] - before[first]) / (last - first) for first, last in ends])


def rate_findings(curve: RateCurve, rate: float, where: str = 'optim_wrapper.optimizer.lr') -> Iterator[Finding]:
    """Compare the rate of the config with the curve."""
    if curve.suggested is None:
        text = f'the loss did not fall in {len(curve.rates)} steps with rates from {_LOWEST:g} on.'
        yield Finding(NOTE, where, text, 'use more images or pretrained weights, or try rates in short trainings')
    else:
        end = f', and diverges at {curve.diverges:.2g}' if curve.diverges else ''
        yield Finding(NOTE, where,
                      f'in {len(curve.rates)} steps the loss falls fastest at lr={curve.suggested:.2g}{end}; '
                      f'the config has lr={rate:g}.', f'lr={curve.suggested:.2g}')  # fmt: skip
    if curve.diverges is not None and rate >= curve.diverges:
        change = f'lr={curve.suggested or curve.diverges / 10:.2g}'
        yield Finding(WARNING, where, f'lr={rate:g} is where the loss diverges ({curve.diverges:.2g}).', change)
