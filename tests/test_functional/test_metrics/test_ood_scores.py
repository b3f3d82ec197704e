import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from hybridcls.functional import auroc, fpr_at_tpr
from hybridcls.functional.metrics import aupr


def scores(ties, seed=0):
    generator = np.random.default_rng(seed)
    known, unknown = generator.normal(0, 1, 217), generator.normal(0.8, 1, 92)
    return [torch.from_numpy(np.round(part, 0 if ties else 12)) for part in (known, unknown)]


@pytest.mark.parametrize('ties', [False, True])
def test_auroc_is_scikit_learns(ties):
    known, unknown = scores(ties)
    expected = roc_auc_score(np.r_[np.zeros(217), np.ones(92)], torch.cat([known, unknown]))
    assert auroc(known, unknown).item() == pytest.approx(expected, abs=1e-12)
    assert auroc(-known, -unknown).item() == pytest.approx(1 - expected, abs=1e-12)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('at', [0.5, 0.8, 0.95, 1.0])
def test_the_side_of_the_false_positive_rate(ties, at):
    """Known is positive: scikit-learn's curve of minus the score, first point with enough true positives."""
    known, unknown = scores(ties)
    false, true, _ = roc_curve(np.r_[np.ones(217), np.zeros(92)], -torch.cat([known, unknown]), drop_intermediate=False)
    expected = false[np.argmax(true >= at - 1e-12)]
    assert fpr_at_tpr(known, unknown, at).item() == pytest.approx(expected, abs=1e-12)


def test_twenty_images_at_95_percent_accept_nineteen():
    known = torch.arange(20.0)
    assert fpr_at_tpr(known, torch.tensor([18.0, 18.5])).item() == 0.5


def test_perfect_chance_and_the_wrong_way_round():
    low, high = torch.zeros(5), torch.ones(3)
    assert [auroc(low, high).item(), auroc(low, low).item(), auroc(high, low).item()] == [1.0, 0.5, 0.0]
    assert [fpr_at_tpr(low, high).item(), fpr_at_tpr(high, low).item()] == [0.0, 1.0]


def test_infinite_scores_and_empty_sides():
    assert auroc(torch.tensor([torch.inf, 0.0]), torch.tensor([torch.inf])).item() == 0.75
    nothing = torch.empty(0)
    for function in (auroc, fpr_at_tpr):
        assert function(nothing, torch.ones(2)).isnan()
        assert function(torch.ones(2), nothing).isnan()


def test_a_share_out_of_range():
    with pytest.raises(ValueError, match=r'expected at in \(0, 1\], got 0'):
        fpr_at_tpr(torch.ones(2), torch.ones(2), at=0)


@pytest.mark.parametrize('ties', [False, True])
def test_aupr_is_scikit_learns_either_way_round(ties):
    known, unknown = scores(ties)
    is_unknown, values = np.r_[np.zeros(217), np.ones(92)], torch.cat([known, unknown])
    expected = average_precision_score(is_unknown, values)
    assert aupr(known, unknown).item() == pytest.approx(expected, abs=1e-12)
    expected = average_precision_score(1 - is_unknown, -values)
    assert aupr(known, unknown, positive='known').item() == pytest.approx(expected, abs=1e-12)


def test_aupr_of_equal_scores_is_the_share_of_the_positive_side():
    assert aupr(torch.zeros(3), torch.zeros(1)).item() == 0.25
    assert aupr(torch.zeros(3), torch.zeros(1), positive='known').item() == 0.75
    assert aupr(torch.tensor([-torch.inf]), torch.tensor([torch.inf])).item() == 1
    assert aupr(torch.zeros(0), torch.zeros(1)).isnan()
    assert aupr(torch.zeros(1), torch.zeros(0)).isnan()
