"""Answers change no more often than is stated; a threshold without the test changes them more often."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, binom

from hybridcls.functional.calibration import skip_threshold

RATE, RESAMPLINGS = 0.02, 100
MOST = int(binom.ppf(0.99, RESAMPLINGS, 0.05))  # 11


def population(kind, size=200_000):
    """Confidences, and whether the full answer is another."""
    rng = np.random.default_rng(3)
    confidence = rng.beta(5, 1, size)
    changes = {
        'falling': 0.3 * (1 - confidence) ** 1.5,
        'surest differ': np.where(confidence > 0.99, 0.2, 0.02),
        'few values': 0.3 * (1 - confidence),
        'always': np.full(size, 0.3),
    }[kind]
    if kind == 'few values':
        confidence = np.ceil(confidence * 6) / 6
    return torch.from_numpy(confidence), torch.from_numpy(rng.random(size) < changes)


def realised(rule, kind, count=600):
    confidences, changed = population(kind)
    rng = np.random.default_rng(9)
    rates = []
    for _ in range(RESAMPLINGS):
        rows = torch.from_numpy(rng.integers(0, len(changed), count))
        threshold = rule(confidences[rows], changed[rows])
        rates.append(0.0 if threshold is None else float((changed & (confidences >= threshold)).double().mean()))
    return np.array(rates)


def naive(confidences, changed):
    """The least threshold at which the images given change no more often."""
    order = confidences.argsort(descending=True)
    good = (changed[order].double().cumsum(0) / len(order) <= RATE).nonzero()
    return float(confidences[order][good[-1, 0]])


@pytest.mark.parametrize('kind', ['falling', 'surest differ', 'few values', 'always'])
def test_answers_change_no_more_often_than_stated(kind):
    rates = realised(lambda *given: skip_threshold(*given, RATE).threshold, kind)
    assert (rates > RATE).sum() <= MOST
    assert kind != 'falling' or (rates > RATE / 4).mean() > 0.9  # it is no rule that skips nothing


def test_a_naive_threshold_fails_that_test():
    assert (realised(naive, 'falling') > RATE).sum() > 3 * MOST


def test_it_is_the_last_threshold_whose_clopper_pearson_bound_holds():
    """Another road: each threshold that occurs, one by one, with the bound of the beta distribution."""
    confidences, changed = population('falling', 900)
    found = skip_threshold(confidences, changed, RATE, 0.9)
    best = None
    for threshold in confidences.sort(descending=True).values.tolist():
        count = int((changed & (confidences >= threshold)).sum())
        if beta.ppf(0.9, count + 1, 900 - count) > RATE:
            break
        best = threshold
    assert found.threshold == best
    assert (found.skipped, found.images) == (int((confidences >= best).sum()), 900)
    assert found.changed == int((changed & (confidences >= best)).sum())


def test_what_is_missing_is_said():
    confidences = torch.linspace(0, 1, 148)
    none = torch.zeros(148, dtype=torch.bool)
    assert skip_threshold(confidences, none, 0.02)[0::4] == (None, 1)  # 149 without a change
    assert skip_threshold(torch.linspace(0, 1, 149), torch.zeros(149, dtype=torch.bool), 0.02)[:2] == (0.0, 149)
    assert skip_threshold(torch.linspace(0, 1, 149), torch.ones(149, dtype=torch.bool), 0.02) == (None, 0, 0, 149, None)
    with pytest.raises(ValueError, match='expected confidences, got NaN'):
        skip_threshold(torch.tensor([float('nan')]), none[:1], 0.02)
