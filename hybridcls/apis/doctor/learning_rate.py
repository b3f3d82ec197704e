"""Learning rate range test: train some steps with a rising rate, and find where the loss falls fastest."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Optional

import numpy as np
from mmengine.optim import OptimWrapper

from .finding import NOTE, WARNING, Finding

__all__ = ['RateCurve', 'rate_curve', 'rate_findings']

_LOWEST, _HIGHEST = 1e-6, 1.0
_STEPS, _FEWEST_STEPS = 100, 20
_CERTAIN = 4.0  # standard deviations of the mean of a window, of which the lowest of many is taken
_RESAMPLES = 200
_DIVERGED = 3.0  # times the fall so far, above the start


@dataclass(frozen=True)
class RateCurve:
    """Loss by learning rate.

    Args:
        rates (list[float]): Of the first parameter group that has the config's rate; rising by a constant factor.
        losses (list[float]): With each rate, before its update; of accumulated batches the mean.
        smoothed (list[float]): The same, without the noise of single batches.
        suggested (float, optional): Where the loss falls fastest; None: it does not fall.
        between (tuple[float, float], optional): The 10 % and 90 % quantiles of that rate, if the noise of the losses is
            drawn again; None without a suggestion. Other first weights are not among what varies.
        diverges (float, optional): Where it rises above what it was at the start; None: it never does.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: Optional[float]
    diverges: Optional[float]
    between: Optional[tuple[float, float]] = None


def rate_curve(
    step: Callable[[Any], float],
    optim_wrapper: OptimWrapper,
    batches: Iterable[Any],
    rate: float,
    steps: int = _STEPS,
    lowest: float = _LOWEST,
    highest: float = _HIGHEST,
    accumulated: int = 1,
) -> RateCurve:
    """Train with a learning rate that rises with each update until the loss diverges.

    The range test of `Smith <https://arxiv.org/abs/1506.01186>`_, section 3.3.

    The parameter groups keep the ratios of their rates. Weights and the state of the optimizer change: what is to be
    left as it was has to be a copy.

    Args:
        step (Callable): Trains with a batch, and returns the loss.
        optim_wrapper (OptimWrapper): Whose rates are set.
        batches (Iterable): As many as the updates take, or fewer.
        rate (float): The rate of the config, to which those of the groups are relative.
        steps (int): Updates. Defaults to 100.
        lowest (float): The first rate. Defaults to 1e-6.
        highest (float): The last rate. Defaults to 1.
        accumulated (int): Batches of an update (``accumulative_counts``), of which the first begins one. They have one
            rate, and one loss, their mean. Defaults to 1.
    """
    groups = optim_wrapper.optimizer.param_groups
    ratios = [group.get('initial_lr', group['lr']) / rate for group in groups]
    rates: list[float] = []
    losses: list[float] = []
    source = iter(batches)
    for number in range(steps):
        of_update = list(islice(source, accumulated))
        if len(of_update) < accumulated:
            break
        now = lowest * (highest / lowest) ** (number / max(1, steps - 1))
        for group, ratio in zip(groups, ratios, strict=True):
            group['lr'] = now * ratio
        try:
            loss = sum(step(batch) for batch in of_update) / accumulated
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
    suggested = between = None
    if falls and lowest > 1:
        suggested = rates[_steepest(smoothed, lowest)]
        between = _between(rates, np.array(losses), smoothed, lowest, width)
    above = [number for number in range(lowest, len(rates)) if smoothed[number] > start + 3 * noise + 0.02 * abs(start)]
    diverges = rates[above[0]] if above else rates[-1] if has_ended else None
    return RateCurve(rates, losses, smoothed.tolist(), suggested, diverges, between)


def _steepest(smoothed: np.ndarray, lowest: int) -> int:
    """Return where a curve falls fastest up to its lowest place; the rates rise by a constant factor."""
    return int(np.gradient(smoothed)[: lowest + 1].argmin())


def _between(
    rates: list[float], losses: np.ndarray, smoothed: np.ndarray, lowest: int, width: int
) -> tuple[float, float]:
    """Return the interval of the steepest rate: the losses' distances from the curve are drawn again."""
    distances = (losses - smoothed)[: lowest + 1]  # beyond, they are those of a loss that diverges
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (_RESAMPLES, len(distances)))
    # A wild bootstrap: batches differ more at one rate than at another, so that distances keep their places.
    # In a moving average of `width` losses, one's own share makes distances too small.
    drawn = smoothed[: lowest + 1] + signs * distances / math.sqrt(1 - 1 / width)
    found = np.array([_steepest(_smoothed(one, width), lowest) for one in drawn])
    low, high = np.quantile(found, (0.1, 0.9), method='inverted_cdf')
    # What is drawn again is averaged twice, which moves the steepest place: distances to that of the curve alone count.
    suggested, moved = _steepest(smoothed, lowest), _steepest(_smoothed(smoothed[: lowest + 1], width), lowest)
    low, high = (int(np.clip(suggested + place - moved, 0, lowest)) for place in (low, high))
    return rates[min(low, suggested)], rates[max(high, suggested)]


def _smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Return the moving average around each value, with shorter windows at the ends."""
    before = np.concatenate([[0.0], np.cumsum(values)])
    half = width // 2
    ends = [(max(0, number - half), min(len(values), number + half + 1)) for number in range(len(values))]
    return np.array([(before[last] - before[first]) / (last - first) for first, last in ends])


def rate_findings(curve: RateCurve, rate: float, where: str = 'optim_wrapper.optimizer.lr') -> Iterator[Finding]:
    """Compare the rate of the config with the curve."""
    if curve.suggested is None:
        text = f'the loss did not fall in {len(curve.rates)} updates with rates from {_LOWEST:g} on.'
        yield Finding(NOTE, where, text, 'use more images or pretrained weights, or try rates in short trainings')
    else:
        low, high = curve.between or (curve.suggested, curve.suggested)
        range_ = f' (80 % of resampled curves: {low:.2g} to {high:.2g})' if low < high else ''
        end = f', and diverges at {curve.diverges:.2g}' if curve.diverges else ''
        # Up to where the loss diverges any rate may be the best of a training: between them, nothing is to be changed.
        is_between = low <= rate < (math.inf if curve.diverges is None else curve.diverges)
        told = ', which is between them' if is_between and curve.diverges else ''
        yield Finding(NOTE, where,
                      f'in {len(curve.rates)} updates the loss falls fastest at lr={curve.suggested:.2g}{range_}{end}; '
                      f'the config has lr={rate:g}{told}.',
                      '' if is_between else f'lr={curve.suggested:.2g}')  # fmt: skip
    if curve.diverges is not None and rate >= curve.diverges:
        change = f'lr={curve.suggested or curve.diverges / 10:.2g}'
        yield Finding(WARNING, where, f'lr={rate:g} is where the loss diverges ({curve.diverges:.2g}).', change)
