"""Scores of a ranking in many bootstrap resamples at once: one sort of the images serves all of them."""

import math

import torch
from torch import Tensor

__all__ = ['ResampledRanks']


class ResampledRanks:
    """How many images of two kinds have a value of at most v, for each distinct v, in each of R resamples.

    Each score equals that of :mod:`~hybridcls.functional.metrics.ood_scores` and
    :mod:`~hybridcls.functional.metrics.selective_prediction` for the images of a resample, within rounding. These sort
    the images of each resample; here the images are sorted once, as a resample changes only how often each one counts.

    Args:
        values (Tensor): Shape (N,), higher is more unknown, or more unsure. No NaN.
        marked (Tensor): Bool (N,): which images are unknown, or answered wrongly.
        weights (Tensor): How often each image was drawn, integers in float64 (R, N).

    Example:
        >>> ranks = ResampledRanks(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([False, True, True]), torch.ones(1, 3))
        >>> ranks.auroc()
        tensor([1.], dtype=torch.float64)
    """

    def __init__(self, values: Tensor, marked: Tensor, weights: Tensor) -> None:
        order = values.double().sort()
        last = order.values.unique_consecutive(return_counts=True)[1].cumsum(0) - 1
        drawn = weights.double()[:, order.indices]
        self.all = drawn.cumsum(1)[:, last]  # (R, G), G distinct values
        self.marked = drawn.mul_(marked[order.indices]).cumsum(1)[:, last]
        self.others = self.all - self.marked

    def auroc(self) -> Tensor:
        """Return the share of pairs with the higher value on the marked image, ties half, (R,); NaN without pairs."""
        below = _before(self.others)
        pairs = ((self.marked - _before(self.marked)) * (below + self.others)).sum(1) / 2
        return pairs / (self.others[:, -1] * self.marked[:, -1])

    def fpr_at_tpr(self, at: float, positive: str = 'known') -> Tensor:
        """Return the share of the other side that is accepted if at least ``at`` of the positive side is, (R,).

        Args:
            at (float): In (0, 1].
            positive (str): ``'known'``: the images that are not marked, accepted up to a value; ``'unknown'``: the
                marked ones, accepted from a value on.
        """
        accepted, falsely = (self.others, self.marked) if positive == 'known' else (self.marked, self.others)
        if positive == 'unknown':
            accepted, falsely = _from_the_top(accepted), _from_the_top(falsely)
        fewest = (at * accepted[:, -1:] - 1e-9).ceil()  # as in fpr_at_tpr: 0.95 * 20 is not quite 19 in binary
        place = torch.searchsorted(accepted, fewest).clamp_max(accepted.shape[1] - 1)
        rates = falsely.gather(1, place).squeeze(1) / falsely[:, -1]
        return rates.masked_fill(accepted[:, -1] == 0, math.nan)

    def aupr(self, positive: str = 'unknown') -> Tensor:
        """Return the average precision of the ``'unknown'`` (marked) side, or of the ``'known'`` one, (R,)."""
        found, falsely = self.others, self.marked
        if positive == 'unknown':
            found, falsely = _from_the_top(self.marked), _from_the_top(self.others)
        precision = found / (found + falsely).clamp_min(1)  # nothing drawn yet: nothing found
        area = (precision * (found - _before(found))).sum(1) / found[:, -1]
        return area.masked_fill(falsely[:, -1] == 0, math.nan)

    def risk_area(self) -> Tensor:
        """Return the area under the risk-coverage curve of the errors, which are the marked images, (R,).

        Images of equal uncertainty count with their mean error m. If A images and E errors come before them, the risk
        at coverage n is (E + (n - A) m) / n = m + (E - A m) / n, whose sum over n is a difference of harmonic numbers.
        """
        return self._area(self.all, self.marked)

    def least_risk_area(self) -> Tensor:
        """Return the area of a ranking with all errors last, (R,)."""
        count, wrong = self.all[:, -1:], self.marked[:, -1:]
        zero = torch.zeros_like(wrong)
        return self._area(torch.cat([count - wrong, count], 1), torch.cat([zero, wrong], 1))

    def error(self) -> Tensor:
        """Return the share of marked images, (R,)."""
        return self.marked[:, -1] / self.all[:, -1]

    def risk_at(self, coverage: float) -> Tensor:
        """Return the mean error of the share ``coverage`` of the least unsure images, rounded up to images, (R,)."""
        answered = (coverage * self.all[:, -1:] - 1e-9).ceil().clamp_min(1)
        place = torch.searchsorted(self.all, answered).clamp_max(self.all.shape[1] - 1)
        images, errors = (
            counts.gather(1, place) for counts in (self.all - _before(self.all), self.marked - _before(self.marked))
        )
        before, wrong = (counts.gather(1, place) for counts in (_before(self.all), _before(self.marked)))
        return ((wrong + (answered - before) * errors / images) / answered).squeeze(1)

    def coverage_at_risk(self, risk: float) -> Tensor:
        """Return the largest coverage of a threshold with a mean error of at most ``risk``, (R,)."""
        good = self.marked <= risk * self.all + 1e-9
        return (self.all * good).amax(1) / self.all[:, -1]

    @staticmethod
    def _area(answered: Tensor, wrong: Tensor) -> Tensor:
        before, errors = _before(answered), _before(wrong)
        images = answered - before
        mean = (wrong - errors) / images.clamp_min(1)
        most = int(answered[:, -1].max())
        harmonic = torch.zeros(most + 1, dtype=torch.float64, device=answered.device)
        harmonic[1:] = torch.arange(1, most + 1, dtype=torch.float64, device=answered.device).reciprocal().cumsum(0)
        terms = harmonic[answered.long()] - harmonic[before.long()]
        return (mean * images + (errors - before * mean) * terms).sum(1) / answered[:, -1]


def _before(counts: Tensor) -> Tensor:
    """Return the counts below each value, of counts up to each value."""
    return torch.nn.functional.pad(counts[:, :-1], (1, 0))


def _from_the_top(counts: Tensor) -> Tensor:
    """Return how many have a value of at least v, from the highest v to the lowest."""
    return (counts[:, -1:] - _before(counts)).flip(1)
