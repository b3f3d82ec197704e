"""Time alternatives against each other on a machine that is not quiet: in turn, many times, by their medians."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

import torch

from hybridcls.checks import check_number

__all__ = ['Timing', 'interleaved_timings', 'timing_table']


@dataclass
class Timing:
    """What one alternative took.

    Args:
        seconds (float): Median over the rounds.
        ratio (float): Median over the rounds of its time over that of the reference *in the same round*, which a
            machine whose speed drifts disturbs less than the ratio of two medians.
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
    """Call the functions in turn, round by round, and compare each with the reference of the same round.

    Every second round goes through them backwards, so that none always follows the same other one. Work that a GPU
    has been given is waited for.

    Args:
        functions (Mapping[str, Callable]): The alternatives, by name.
        reference (str, optional): What ratios are taken to. Defaults to None, the first.
        rounds (int): Rounds that count. Defaults to 11.
        warmup (int): Rounds before them that do not. Defaults to 2.
        clock (Callable): Tells the time in seconds. ``time.process_time`` counts only what this process computes (the
            sum over its threads), for a CPU that others use too. Defaults to ``time.perf_counter``.

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
    names = list(functions)
    reference = names[0] if reference is None else reference
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()  # a collection would fall on whoever happens to run
    try:
        for round_number in range(-warmup, rounds):
            for name in names if round_number % 2 == 0 else reversed(names):
                elapsed = _seconds_of(functions[name], clock)
                if round_number >= 0:
                    seconds[name].append(elapsed)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    timings = {}
    for name in names:
        ratios = sorted(own / base for own, base in zip(seconds[name], seconds[reference], strict=True))
        quartiles = (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
        timings[name] = Timing(statistics.median(seconds[name]), statistics.median(ratios), quartiles)
    return timings


def timing_table(timings: Mapping[str, Timing], what: str = '') -> str:
    """Draw a table: name, median milliseconds, ratio to the reference and its quartiles."""
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
        torch.cuda.synchronize()
