"""Sets hold the right class, or match, as often as is stated: as MAPIE's, and over resamplings."""

import numpy as np
import pytest
import torch

from hybridcls.functional.calibration import conformal_threshold, images_for_sets, match_sets, match_threshold


@pytest.mark.parametrize('alpha', [0.05, 0.1, 0.29])
@pytest.mark.parametrize('count', [21, 40, 99, 137])
def test_the_sets_are_those_of_mapie(alpha, count):
    pytest.importorskip('mapie')
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """A classifier whose images are their scores."""

        classes_ = np.arange(4)
        n_features_in_ = 4

        def fit(self, x, y):
            return self

        def predict(self, x):
            return x.argmax(1)

        def predict_proba(self, x):
            return x

        def __sklearn_is_fitted__(self):
            return True

    rng = np.random.default_rng(count)
    scores = rng.dirichlet([0.6] * 4, count + 50)
    labels = np.array([rng.choice(4, p=row) for row in scores])
    fitted = SplitConformalClassifier(Given(), confidence_level=1 - alpha, conformity_score='lac').conformalize(
        scores[:count], labels[:count]
    )
    expected = fitted.predict_set(scores[count:])[1][:, :, 0]
    threshold = conformal_threshold(torch.from_numpy(scores[:count][np.arange(count), labels[:count]]), alpha)
    got = match_sets(torch.from_numpy(scores[count:]), threshold)
    assert [set(one.tolist()) for one in got] == [set(row.nonzero()[0]) for row in expected]


def test_the_least_number_of_images():
    for alpha in (0.05, 0.1, 0.3, 0.01):
        least = images_for_sets(alpha)
        assert conformal_threshold(torch.linspace(0, 1, least), alpha) == 0.0
        assert conformal_threshold(torch.linspace(0, 1, least - 1), alpha) is None
    assert images_for_sets(0.1) == 9


def galleries(rng, queries, known=0.7):
    """Similarities to 30 classes, of queries of which some have no match."""
    similarities = rng.normal(0.1, 0.15, (queries, 30))
    right = np.zeros((queries, 30), bool)
    right[np.arange(queries), rng.integers(0, 30, queries)] = True
    similarities[right] += rng.normal(0.5, 0.2, queries)
    without = rng.random(queries) > known
    similarities[right & without[:, None]] = 0.1
    right[without] = False
    return torch.from_numpy(similarities), torch.from_numpy(right)


def test_match_sets_hold_the_right_match_as_often_as_is_stated():
    """The mean over resamplings, and a threshold that leaves out the correction for few queries falls short."""
    rng = np.random.default_rng(0)
    similarities, right = galleries(rng, 20_000)
    held, uncorrected = [], []
    best = similarities.masked_fill(~right, -torch.inf).amax(1)
    for _ in range(300):
        rows = torch.from_numpy(rng.integers(0, 20_000, 24))
        threshold = match_threshold(similarities[rows], right[rows], alpha=0.2)
        held.append((best[right.any(1)] >= threshold).double().mean().item())
        own = best[rows][right[rows].any(1)]
        uncorrected.append((best[right.any(1)] >= own.quantile(0.2, interpolation='higher')).double().mean().item())
    error = np.std(held) / np.sqrt(300)
    assert np.mean(held) > 0.8 - 2.6 * error
    assert np.mean(uncorrected) < 0.8 - 2.6 * error


def test_sets_of_matches_are_sorted_and_may_be_empty():
    similarities, right = galleries(np.random.default_rng(1), 400)
    threshold = match_threshold(similarities, right, alpha=0.1)
    sets = match_sets(similarities, threshold)
    for row, found in zip(similarities, sets, strict=True):
        assert set(found.tolist()) == set((row >= threshold).nonzero().flatten().tolist())
        assert (row[found].diff() <= 0).all()
    empty = torch.tensor([not len(one) for one in sets])
    assert empty[~right.any(1)].double().mean() > 5 * empty[right.any(1)].double().mean()  # no match
    assert all(len(one) for one in match_sets(similarities, 9.0, at_least=1))


def test_too_few_queries_have_no_threshold():
    similarities, right = galleries(np.random.default_rng(1), 10)
    assert match_threshold(similarities, right, alpha=0.05) is None
    assert match_threshold(similarities, torch.zeros_like(right), alpha=0.05) is None


def test_nan_is_furthest():
    similarities = torch.tensor([[torch.nan, 0.75, 0.5], [0.25, torch.nan, 0.125], [0.5, 0.25, 0.375]])
    assert [found.tolist() for found in match_sets(similarities, 0.25)] == [[1, 2], [0], [0, 2, 1]]
    assert [len(found) for found in match_sets(similarities, -torch.inf)] == [2, 2, 3]
    is_right = torch.tensor([[True, True, False], [False, True, False], [True, False, False]])
    assert match_threshold(similarities, is_right, alpha=0.5) == 0.5  # of 0.75, NaN and 0.5
    assert conformal_threshold(torch.tensor([torch.nan, 0.5, 0.75]), alpha=0.5) == 0.5


def test_similarities_need_no_bounds():
    similarities = torch.tensor([[5.0, -3.0], [-2.0, 7.0], [-4.0, 9.0]])
    is_right = torch.tensor([[False, True], [True, False], [True, False]])
    assert match_threshold(similarities, is_right, alpha=0.5) == -3.0
