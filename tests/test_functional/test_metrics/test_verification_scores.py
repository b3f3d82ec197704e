import numpy as np
import pytest
import torch
from fidelity_checks import assert_faithful
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold

from hybridcls.apis.fidelity.fixed_inputs import pairs as official_pairs
from hybridcls.functional import fold_accuracies, roc_on_grid, true_accept_rates


def pairs(count=203, levels=None, seed=0):
    """Cosines of overlapping kinds; on few levels there are ties."""
    generator = torch.Generator().manual_seed(seed)
    same = torch.rand(count, generator=generator) < 0.5
    cosines = (0.2 + 0.3 * same + 0.25 * torch.randn(count, generator=generator)).clamp(-1, 1).double()
    return (cosines if levels is None else (cosines * levels).round() / levels), same


@pytest.mark.parametrize('levels', [None, 8])
def test_accept_rates_by_trying_all_thresholds(levels):
    cosines, same = pairs(levels=levels)
    genuine, impostor = cosines[same], cosines[~same]
    rates = [0.0, 0.01, 0.1, 0.25, 0.5, 1.0]
    for rate, found in zip(rates, true_accept_rates(genuine, impostor, rates), strict=True):
        best = 0.0
        for threshold in [-2.0, *cosines.tolist()]:
            if (impostor > threshold).double().mean() <= rate:
                best = max(best, (genuine > threshold).double().mean().item())
        assert found.item() == best


def test_accept_rates_are_points_of_scikit_learns_curve():
    cosines, same = pairs(2000)
    far, tar, _ = roc_curve(same, cosines, drop_intermediate=False)
    for rate in (0.001, 0.01, 0.1):
        assert true_accept_rates(cosines[same], cosines[~same], [rate]).item() == tar[far <= rate].max()


@pytest.mark.parametrize('levels', [None, 40, 8])
def test_the_nearest_corner_of_scikit_learns_curve(levels):
    """As InsightFace's eval_ijbc.py looks it up: the flipped curve, and of equal distances the first."""
    cosines, same = pairs(2000, levels=levels, seed=3)
    far, tar, _ = roc_curve(same, cosines)
    far, tar = far[::-1], tar[::-1]
    rates = [1e-4, 0.0012, 0.01, 0.1, 0.3, 1.0]
    expected = [tar[min(zip(abs(far - rate), range(len(far)), strict=True))[1]] for rate in rates]
    found = true_accept_rates(cosines[same], cosines[~same], rates, point='nearest')
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert found.tolist() != true_accept_rates(cosines[same], cosines[~same], rates).tolist()
    with pytest.raises(ValueError, match=r"expected point to be one of .*, got 'above'"):
        true_accept_rates(cosines[same], cosines[~same], rates, point='above')


def test_points_between_corners_are_not_looked_at():
    """Thresholds within the run of impostors lie on a line; from 0.7 the corner at 1 is nearer than that at 0."""
    genuine, impostor = torch.tensor([0.9, 0.4]), torch.tensor([0.8, 0.7, 0.6, 0.5])
    assert true_accept_rates(genuine, impostor, [0.4, 0.7], point='nearest').tolist() == [0.5, 1.0]


def test_a_rate_that_is_no_binary_fraction_is_met():
    impostor = torch.arange(100) / 100.0
    assert 0.29 * len(impostor) < 29
    assert true_accept_rates(torch.tensor([0.705]), impostor, [0.29]).item() == 1  # 29 are above 0.70
    assert true_accept_rates(torch.tensor([0.695]), impostor, [0.29]).item() == 0


def test_without_pairs_of_one_kind_there_is_no_rate():
    assert true_accept_rates(torch.ones(3), torch.ones(0), [0.1]).isnan().all()
    assert true_accept_rates(torch.ones(0), torch.ones(3), [0.1]).isnan().all()


@pytest.mark.parametrize('levels', [None, 8])
@pytest.mark.parametrize('folds', [2, 10])
def test_accuracy_by_trying_all_thresholds(levels, folds):
    cosines, same = (values.numpy() for values in pairs(levels=levels))
    expected = []
    for train, test in KFold(folds).split(cosines):
        values = np.unique(cosines[train])[::-1]
        thresholds = [np.inf, *(values[:-1] + values[1:]) / 2, -np.inf]  # strictest first
        right = [np.sum((cosines[train] > threshold) == same[train]) for threshold in thresholds]
        expected.append(np.mean((cosines[test] > thresholds[np.argmax(right)]) == same[test]))
    found = fold_accuracies(torch.from_numpy(cosines), torch.from_numpy(same), folds)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_the_grid_and_the_curve_of_the_official_code():
    assert_faithful('VerificationMetric on pairs')
    cosines, same = (torch.from_numpy(values) for values in official_pairs())
    assert fold_accuracies(cosines, same).tolist() != fold_accuracies(cosines, same, thresholds='grid').tolist()
    with pytest.raises(ValueError, match=r'roc_on_grid: expected folds in \[2, 3\], got 10. There are 3 pairs'):
        roc_on_grid(torch.ones(3), torch.ones(3, dtype=torch.bool))


def test_pairs_that_are_all_right():
    same = torch.arange(20) % 2 == 0
    assert fold_accuracies(same.float(), same).tolist() == [1.0] * 10
    assert fold_accuracies(same.float(), same, thresholds='grid').tolist() == [1.0] * 10


def test_mistakes_are_answered():
    with pytest.raises(ValueError, match=r'expected folds in \[2, 3\], got 10. There are 3 pairs'):
        fold_accuracies(torch.ones(3), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected thresholds to be one of .*, got 'gird'"):
        fold_accuracies(torch.ones(30), torch.ones(30, dtype=torch.bool), thresholds='gird')
    with pytest.raises(ValueError, match=r'expected rate in .*, got 2'):
        true_accept_rates(torch.ones(3), torch.ones(3), [2])
