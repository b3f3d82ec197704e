"""Spearman's correlation with a level, beside scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hybridcls.functional.metrics.rank_correlation import level_correlation


def test_it_is_scipys_and_its_interval_is_that_of_resampled_images():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 4)) - 0.5 * np.arange(4) + rng.normal(size=(30, 1))
    values[:3] = 0.5  # ties
    levels = np.tile(np.arange(4), 30)
    found = level_correlation(torch.from_numpy(values))
    assert found.value == pytest.approx(spearmanr(values.ravel(), levels).statistic)
    resamples = [
        spearmanr(values[rng.integers(0, 30, 30)].ravel(), levels).statistic for _ in range(1000)
    ]  # each image with all its levels
    assert found.low == pytest.approx(np.quantile(resamples, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(resamples, 0.975), abs=0.03)


def test_where_all_are_equal_there_is_none():
    assert np.isnan(level_correlation(torch.ones(10, 3)).value)
    few = level_correlation(torch.arange(6.0).view(2, 3))
    assert np.isnan(few.low)
