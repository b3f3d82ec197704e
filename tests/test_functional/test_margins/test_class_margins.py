import numpy as np
import pytest
import torch

from hybridcls.functional import margins_from_counts

COUNTS = [1000, 250, 40, 7, 1, 0]


def test_range_is_the_formula_of_mmpretrain():
    # The arithmetic of SetAdaptiveMarginsHook, in numpy.
    counts = np.maximum(COUNTS, 1)
    power = np.power(counts, -0.25, dtype=np.float64)
    expected = (power - power.min()) / (power.max() - power.min()) * (0.5 - 0.05) + 0.05
    torch.testing.assert_close(margins_from_counts(torch.tensor(COUNTS)), torch.from_numpy(expected).float())


def test_proportional_is_that_of_ldam():
    counts = np.maximum(COUNTS, 1)
    margins = 1.0 / np.sqrt(np.sqrt(counts))
    expected = margins * (0.5 / margins.max())
    torch.testing.assert_close(
        margins_from_counts(torch.tensor(COUNTS), rule='proportional'), torch.from_numpy(expected).float()
    )


def test_equal_counts_and_one_class():
    assert margins_from_counts(torch.tensor([5, 5])).tolist() == [0.5, 0.5]
    assert margins_from_counts(torch.tensor([3])).tolist() == [0.5]


@pytest.mark.parametrize('keys', [dict(low=-1), dict(low=0.6), dict(high=4.0), dict(power=0.0), dict(rule='ldam')])
def test_wrong_settings_are_named(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'class margins: expected {name} '):
        margins_from_counts(torch.ones(2), **keys)


@pytest.mark.parametrize('counts', [torch.ones(2, 2), torch.tensor([1, -1]), torch.zeros(0)])
def test_what_is_no_vector_of_counts(counts):
    with pytest.raises(ValueError, match='expected one count >= 0 for each class'):
        margins_from_counts(counts)
