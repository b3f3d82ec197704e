"""Spearman's rank correlation between measurements on images and the level of a degradation."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .intervals import bootstrap_interval

__all__ = ['LevelCorrelation', 'level_correlation']


class LevelCorrelation(NamedTuple):
    """A rank correlation with its interval.

    Args:
        value (float): In [-1, 1]: 1 where each level has larger values than the one before; NaN where all are equal.
        low (float), high (float): The ends of its interval; NaN of too few images.
    """

    value: float
    low: float
    high: float


def level_correlation(values: Tensor, confidence: float = 0.95, seed: int = 0) -> LevelCorrelation:
    """Return Spearman's correlation of values with levels, with its bootstrap interval over images.

    The images are drawn with all their levels, since the values of an image belong together. Ranks are computed again
    in each resample, ties get their mean rank (scipy's ``rankdata``).

    Args:
        values (Tensor): Of N images at L levels, the levels in order, (N, L).
        confidence (float): In (0, 1). Defaults to 0.95.
        seed (int): Of the resamples. Defaults to 0.

    Example:
        >>> level_correlation(torch.tensor([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]])).value > 0.9
        True
    """
    count, levels = values.shape
    level_ranks = _centred_ranks(np.tile(np.arange(levels), count)[None])[0]
    rows = values.double().numpy()

    def of(places: np.ndarray) -> np.ndarray:
        ranks = _centred_ranks(rows[places].reshape(len(places), -1))
        with np.errstate(invalid='ignore', divide='ignore'):
            return (ranks @ level_ranks) / np.sqrt((ranks**2).sum(1) * (level_ranks**2).sum())

    def statistic(weights: Tensor) -> Tensor:
        drawn = torch.arange(count).expand(weights.shape).flatten().repeat_interleave(weights.flatten().long())
        return torch.from_numpy(of(drawn.view(weights.shape).numpy()))

    value = float(of(np.arange(count)[None])[0])
    low, high = bootstrap_interval(statistic, count, confidence=confidence, seed=seed)
    return LevelCorrelation(value, float(low), float(high))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1)
    return ranks - ranks.mean(1, keepdims=True)
