"""Exact tests whether groups of images contain more marked ones (errors) than expected by chance."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from hybridcls.checks import check_number

__all__ = ['ExcessFamily', 'ExcessTests', 'excess_family']

_BLOCK = 256  # groups whose distributions are computed at once
_FEWEST_SHUFFLES = 999
_SHUFFLES_AT_ONCE = 100
_SHUFFLED_NUMBERS = 2**23  # that are held at once


class ExcessTests:
    """One-sided tests of M groups, which may overlap: is a mark more frequent in them than in the other images?

    Given how many images of each stratum (class) are marked, and how many of each a group has, every assignment of the
    marks to the images of a stratum is as likely as any other where the group says nothing. The number of marked images
    in the group is then a sum of independent hypergeometric numbers, one a stratum, and the p-value the exact
    probability of as many or more. That is the exact form of the Cochran-Mantel-Haenszel test (Agresti, "Categorical
    Data Analysis", 6.3.5): a group of hard classes is not blamed for them. With one stratum it is Fisher's exact test.

    Args:
        members (np.ndarray): Which images each group has, bool (M, N).
        strata (np.ndarray): The stratum of each image, integers (N,), >= 0.
        marked (np.ndarray): Which images are marked, bool (N,).

    Attributes:
        counts (np.ndarray): Marked images of each group, int64 (M,).
        expected (np.ndarray): As many marked ones as its strata let expect, float64 (M,).
        p_values (np.ndarray): float64 (M,).

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> marked = np.array([1, 1, 0, 0, 0, 0], dtype=bool)
        >>> tests = ExcessTests(np.array([[1, 1, 1, 0, 0, 0]], dtype=bool), np.zeros(6, dtype=int), marked)
        >>> tests.counts.item(), tests.expected.item(), round(tests.p_values.item(), 3)  # 3 of 15 pairs
        (2, 1.0, 0.2)
    """

    def __init__(self, members: np.ndarray, strata: np.ndarray, marked: np.ndarray) -> None:
        if members.ndim != 2 or not members.shape[1] == len(strata) == len(marked):
            raise ValueError(
                f'ExcessTests: expected members (M, N), strata (N,) and marked (N,), got {members.shape}, '
                f'{strata.shape} and {marked.shape}.'
            )
        self._members = members.astype(np.float32)  # counts below 2^24 are exact
        self.strata, self.marked = np.asarray(strata), np.asarray(marked, dtype=bool)
        images = np.bincount(self.strata)
        marks = np.bincount(self.strata[self.marked], minlength=len(images))
        some = np.flatnonzero(marks)  # in the other strata nothing can happen
        inside = np.zeros((len(members), len(some)), dtype=np.int64)
        for column, stratum in enumerate(some):
            inside[:, column] = members[:, self.strata == stratum].sum(1)
        self.expected = inside @ (marks[some] / images[some])
        self._order = np.argsort(inside.sum(1), kind='stable')
        self._log_factorials = gammaln(np.arange(int(images.max(initial=0)) + 1) + 1.0)
        self._tails = [
            self._tails_of(inside[self._order[begin : begin + _BLOCK]], images[some], marks[some])
            for begin in range(0, len(members), _BLOCK)
        ]
        self.counts = members[:, self.marked].sum(1)
        self.p_values = self._looked_up(self.counts[:, None])[:, 0]

    def _tails_of(self, inside: np.ndarray, images: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Return the probability of k or more marked images, k = 0, 1, ..., for groups with given strata."""
        most = int(np.minimum(inside, marks).sum(1).max(initial=0))
        chances = np.zeros((len(inside), most + 1))
        chances[:, 0] = 1.0
        filled = 1  # what lies beyond is 0
        for own, of, marked in zip(inside.T, images, marks, strict=True):
            if not own.any():
                continue
            drawn = np.arange(min(int(own.max()), int(marked)) + 1)
            now = np.zeros_like(chances)
            for k, share in enumerate(self._hypergeometric(drawn, own[:, None], int(of), int(marked)).T):
                end = min(k + filled, most + 1)
                now[:, k:end] += chances[:, : end - k] * share[:, None]
            chances, filled = now, min(filled + len(drawn) - 1, most + 1)
        return np.minimum(chances[:, ::-1].cumsum(1)[:, ::-1], 1.0)

    def _hypergeometric(self, drawn: np.ndarray, own: np.ndarray, of: int, marked: int) -> np.ndarray:
        """Return the hypergeometric probability that ``drawn`` of ``own`` images of a stratum are marked."""
        possible = (drawn <= own) & (marked - drawn <= of - own)

        def log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
            known = self._log_factorials
            return known[n] - known[np.where(possible, k, 0)] - known[np.where(possible, n - k, 0)]

        every = log_choose(np.array(of), np.array(marked))
        logs = log_choose(own, drawn) + log_choose(of - own, marked - drawn) - every
        return np.where(possible, np.exp(logs), 0.0)

    def _looked_up(self, counts: np.ndarray) -> np.ndarray:
        """Return the p-values for numbers of marked images, (M, K)."""
        found = np.empty(counts.shape)
        for number, tails in enumerate(self._tails):
            rows = self._order[number * _BLOCK : number * _BLOCK + len(tails)]
            found[rows] = np.take_along_axis(tails, counts[rows], 1)
        return found

    def shuffled(self, shuffles: int, seed: int = 0) -> Iterator[np.ndarray]:
        """Yield the p-values of all groups with marks shuffled within each stratum, (M, K), ``shuffles`` in total."""
        generator = np.random.default_rng(seed)
        marks = self.marked[np.argsort(self.strata, kind='stable')].astype(np.float32)
        size = max(1, min(_SHUFFLES_AT_ONCE, _SHUFFLED_NUMBERS // max(len(marks), len(self._members), 1)))
        for begin in range(0, shuffles, size):
            number = min(size, shuffles - begin)
            order = np.argsort(self.strata[:, None] + generator.random((len(marks), number)), axis=0)
            drawn = np.empty((len(marks), number), dtype=np.float32)
            np.put_along_axis(drawn, order, marks[:, None], axis=0)
            yield self._looked_up(np.rint(self._members @ drawn).astype(np.int64))


class ExcessFamily(NamedTuple):
    """The result of a family of tests.

    Args:
        adjusted (np.ndarray): The p-values, adjusted for the number of groups by Benjamini and Hochberg, float64 (M,).
        by_chance (np.ndarray): With which probability shuffled marks give any group a smaller or equal one, float64
            (M,); 1 of all groups where that is more than the level of even the smallest.
    """

    adjusted: np.ndarray
    by_chance: np.ndarray


def excess_family(tests: ExcessTests, level: float, seed: int = 0) -> ExcessFamily:
    """Correct the p-values of a family for its number of groups, which may overlap in any way.

    Where the groups say nothing, and any assignment of the marks to the images of a stratum is as likely as any other,
    some ``by_chance`` is at most ``level`` with a probability of at most ``level``, exactly. The rule of Benjamini and
    Hochberg (``scipy.stats.false_discovery_control``) has that property for positive dependence alone, while groups
    that exclude each other depend negatively; that of Benjamini and Yekutieli, right under any dependence, is far too
    strict for groups that nearly agree, of which there are many. So the smallest adjusted p-value is compared with
    those of shuffled marks, which have the same groups, overlaps and sizes (as Westfall and Young, "Resampling-Based
    Multiple Testing", 1993, do with the smallest p-value).

    Args:
        tests (ExcessTests): Of all groups.
        level (float): In (0, 1).
        seed (int): Of the shuffles. Defaults to 0.

    Raises:
        ValueError: If the level is out of range.
    """
    from scipy.stats import false_discovery_control

    check_number('excess_family', 'level', level, 0, 1, low_open=True, high_open=True)
    nothing = ExcessFamily(np.ones(len(tests.p_values)), np.ones(len(tests.p_values)))
    if not len(tests.p_values):
        return nothing
    adjusted = false_discovery_control(tests.p_values)
    bound = adjusted * (1 + 1e-9)  # equal numbers may differ in the last bit
    shuffles = max(_FEWEST_SHUFFLES, int(np.ceil(10 / level)) - 1)
    smallest = np.zeros(0)
    for drawn in tests.shuffled(shuffles, seed):
        smallest = np.concatenate([smallest, false_discovery_control(drawn, axis=0).min(0)])
        if 1 + (smallest <= bound.min()).sum() > level * (1 + shuffles):
            return nothing._replace(adjusted=adjusted)
    ranks = np.searchsorted(np.sort(smallest), bound, side='right')
    return ExcessFamily(adjusted, (1 + ranks) / (1 + shuffles))
