"""Run a case on a device, and measure the deviation of its numbers from the expected ones."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Optional

import numpy as np
from mmengine.logging import MMLogger

from hybridcls.functional.full_precision import tf32_convolutions, tf32_products

from .fidelity_case import FidelityCase, Place, float_numbers
from .stored_numbers import stored_numbers

__all__ = ['Comparison', 'compare', 'deviation', 'without_tf32']


@dataclass(frozen=True)
class Comparison:
    """The result of comparing one case.

    Args:
        case (FidelityCase): Which one.
        deviation (float, optional): The largest one of all its numbers; None if it did not run.
        tolerance (float): What is allowed in this precision.
        problem (str): Why it did not run, or ''.
        skipped (bool): It needs a package that is not installed.
        seconds (float): What it took.
    """

    case: FidelityCase
    deviation: Optional[float]
    tolerance: float
    problem: str = ''
    skipped: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> Optional[bool]:
        """Whether the deviation is within the tolerance; None for a skipped case."""
        if self.skipped:
            return None
        return self.deviation is not None and self.deviation <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison in JSON's types."""
        measured = dict(deviation=self.deviation, tolerance=self.tolerance, ok=self.ok, problem=self.problem)
        return {**self.case.as_dict(), **measured, 'seconds': round(self.seconds, 3)}


def compare(case: FidelityCase, place: Place) -> Comparison:
    """Compare one case.

    A case that fails to run has no deviation, and says why: the others are not lost with it.

    Args:
        case (FidelityCase): Which one.
        place (Place): Where, and in which precision.
    """
    tolerance = case.tolerance_in(place.dtype)
    if case.needs and find_spec(case.needs) is None:
        return Comparison(case, None, tolerance, f'needs {case.needs}', skipped=True)
    began = time.perf_counter()
    problem, largest = '', None
    try:
        with without_tf32(), _quiet():
            found = case.found(place)
        expected = stored_numbers(case.numbers_of or case.name) if case.expected is None else case.expected()
        if set(found) != set(expected):
            problem = f'it has {sorted(found)}, to compare with {sorted(expected)}'
        else:
            largest = max(deviation(float_numbers(found[name]), expected[name]) for name in expected)
    except Exception as error:  # one row of the table, which goes on
        problem = f'{type(error).__name__}: {error}'
    return Comparison(case, largest, tolerance, problem, seconds=time.perf_counter() - began)


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the expected number.

    The unit of a small number is the largest one of the array, at most 1: where terms cancel, rounding has their size.

    Args:
        found (ndarray): Float64.
        expected (ndarray): Of the same shape; another one is infinitely far. NaN equals NaN.
    """
    expected = np.asarray(expected, dtype=np.float64)
    if found.shape != expected.shape:
        return float('inf')
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))  # infinite ones, too
    unit = min(1.0, float(np.abs(expected).max(initial=0.0, where=np.isfinite(expected)))) or 1.0
    with np.errstate(invalid='ignore'):
        apart = np.abs(found - expected) / np.maximum(unit, np.abs(expected))
    apart = np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf))
    return float(apart.max(initial=0.0))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 products and convolutions without TF32 on GPUs in the block."""
    with tf32_products(False, 'cuda'), tf32_convolutions(False, 'cuda'):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about the tiny inputs of the cases."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
