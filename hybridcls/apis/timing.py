"""Time alternatives on a noisy machine: interleaved, in many rounds, by medians."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

import torch

from hybridcls.checks import check_number
from hybridcls.engine.runner.device_wait import wait_for_device

__all__ = ['Timing', 'interleaved_seconds', 'interleaved_timings', 'timing_of', 'timing_table']

_FEWEST_ROUNDS = 3


@dataclass
class Timing:
    """The timing of one alternative.

    Args:
        seconds (float): Median over the rounds.
        ratio (float): Median over the rounds of its time over that of the reference *in the same round*, which is more
            robust to drifting speed than the ratio of two medians.
        spread (tuple[float, float]): Lower and upper quartile of those ratios.
    """

    seconds: float
    ratio: float
    spread: tuple[float, float]


def interleaved_timings(
    functions: Mapping[str, Callable[[], Any]],
    reference: Optional[str] = None,
    rounds: int = 11,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time functions in turn, round by round, and compare each with the reference in the same round.

    Every second round reverses the order: no function always follows the same other one. GPU work is synchronized.

    Args:
        functions (Mapping[str, Callable]): The alternatives, by name.
        reference (str, optional): The denominator of the ratios. Defaults to None, the first.
        rounds (int): Number of timed rounds. Defaults to 11.
        warmup (int): Number of rounds before them. Defaults to 2.
        clock (Callable): Returns the time in seconds. ``time.process_time`` counts only what this process computes (the
            sum over its threads), for a shared CPU. Defaults to ``time.perf_counter``.

    Returns:
        dict[str, Timing]: By name, in the given order.

    Example:
        >>> alternatives = dict(short=lambda: sum(range(10)), long=lambda: sum(range(100_000)))
        >>> timings = interleaved_timings(alternatives, rounds=1, warmup=1)
        >>> timings['short'].ratio, timings['long'].ratio > 10
        (1.0, True)
    """
    check_number('interleaved_timings', 'rounds', rounds, 1, integer=True)
    check_number('interleaved_timings', 'warmup', warmup, 0, integer=True)
    seconds = interleaved_seconds(
        {name: partial(_seconds_of, function, clock) for name, function in functions.items()}, rounds, warmup
    )
    return {name: timing_of(own, seconds[reference or next(iter(functions))]) for name, own in seconds.items()}


def interleaved_seconds(
    measures: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 0, most_seconds: float = math.inf
) -> dict[str, list[float]]:
    """Call functions that return their own duration in turn, round by round; return the seconds of all rounds.

    Args:
        measures (Mapping[str, Callable]): Each does its work and returns its seconds.
        rounds (int): Number of rounds that count, at most.
        warmup (int): Number of rounds before them. Defaults to 0.
        most_seconds (float): No round but the first three begins after so many. Defaults to infinity.
    """
    names = list(measures)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall into a random function
    try:
        for round_number in range(-warmup, rounds):
            if round_number >= _FEWEST_ROUNDS and time.perf_counter() - began > most_seconds:
                break
            for name in names if round_number % 2 == 0 else reversed(names):
                elapsed = measures[name]()
                if round_number >= 0:
                    seconds[name].append(elapsed)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return seconds


def timing_of(seconds: Sequence[float], reference: Sequence[float]) -> Timing:
    """Return the timing of an alternative from its seconds and the reference's, round by round."""
    ratios = sorted(own / base for own, base in zip(seconds, reference, strict=True))
    quartiles = (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
    return Timing(statistics.median(seconds), statistics.median(ratios), quartiles)


def timing_table(timings: Mapping[str, Timing], what: str = '') -> str:
    """Format a table: name, median milliseconds, ratio to the reference and its quartiles."""
    width = max(len(name) for name in [*timings, what])
    lines = [f'{what:<{width}}  {"ms":>10}  {"ratio":>6}  quartiles']
    lines += [
        f'{name:<{width}}  {t.seconds * 1e3:>10.2f}  {t.ratio:>6.3f}  {t.spread[0]:.3f} to {t.spread[1]:.3f}'
        for name, t in timings.items()
    ]
    return '\n'.join(lines)


def _seconds_of(function: Callable[[], Any], clock: Callable[[], float]) -> float:
    _wait_for_device()
    began = clock()
    function()
    _wait_for_device()
    return clock() - began


def _wait_for_device() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        wait_for_device(torch.device('cuda'))
    elif torch.backends.mps.is_available():
        wait_for_device(torch.device('mps'))
