"""The realised risk exceeds the target no more often than is stated; and a naive threshold fails the same test."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, binom

from hybridcls.functional.calibration import images_without_error, risk_threshold

RESAMPLINGS = 100
RISK, CONFIDENCE = 0.1, 0.95
MOST = int(binom.ppf(0.99, RESAMPLINGS, 1 - CONFIDENCE))  # 11


def population(kind, size=200_000):
    """Confidences, and whether answers are wrong."""
    rng = np.random.default_rng(5)
    confidence = rng.beta(5, 1, size)
    error = {
        'true': 1 - confidence,
        'overconfident': np.minimum(1, 2.5 * (1 - confidence)),
        'errs where it is surest': np.where(confidence > 0.97, 0.16, 0.5 * (1 - confidence)),
        'few values': 1 - confidence,
        'useless': np.full(size, 0.11),  # just above the target, everywhere
    }[kind]
    if kind == 'few values':
        confidence = np.ceil(confidence * 8) / 8
    return torch.from_numpy(confidence), torch.from_numpy(rng.random(size) < error)


def naive(confidences, wrong, is_test, risk, confidence):
    """The least threshold at which the error of the given images is not too large."""
    order = confidences.argsort(descending=True)
    errors = wrong[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    good = (errors <= risk).nonzero()
    return None if not len(good) else float(confidences[order][good[-1, 0]])


def ours(*arguments):
    return risk_threshold(*arguments).threshold


def realised(rule, kind, count=1200):
    """Of resamplings: the risk that the threshold has in the population, NaN where there is none."""
    confidences, wrong = population(kind)
    rng = np.random.default_rng(7)
    risks = []
    for _ in range(RESAMPLINGS):
        rows = torch.from_numpy(rng.integers(0, len(wrong), count))
        is_test = torch.from_numpy(rng.random(count) < 0.75)
        threshold = rule(confidences[rows], wrong[rows], is_test, RISK, CONFIDENCE)
        answered = torch.zeros(len(wrong), dtype=torch.bool) if threshold is None else confidences >= threshold
        risks.append(wrong[answered].double().mean().item())
    return np.array(risks)


def test_the_bound_is_eleven_of_a_hundred():
    assert MOST == 11


@pytest.mark.parametrize('kind', ['true', 'overconfident', 'errs where it is surest', 'few values', 'useless'])
def test_the_risk_is_exceeded_no_more_often_than_stated(kind):
    risks = realised(ours, kind)
    assert (risks > RISK).sum() <= MOST
    found = (~np.isnan(risks)).mean()
    assert found <= 0.11 if kind == 'useless' else found > 0.5  # it is no rule that answers nothing


@pytest.mark.parametrize('kind', ['true', 'overconfident'])
def test_a_naive_threshold_fails_that_test(kind):
    assert (realised(naive, kind) > RISK).sum() > 3 * MOST


def test_the_threshold_is_the_last_whose_clopper_pearson_bound_holds():
    """Another road: the one-sided bound of Clopper and Pearson, computed from the beta distribution."""
    confidences, wrong = population('true', 4000)
    is_test = torch.arange(4000) % 4 > 0
    found = risk_threshold(confidences, wrong, is_test, RISK, CONFIDENCE)
    answered = confidences[is_test] >= found.threshold
    assert found[1:4] == (int(answered.sum()), int(wrong[is_test][answered].sum()), 3000)
    assert beta.ppf(CONFIDENCE, found.errors + 1, found.answered - found.errors) <= RISK
    lower = confidences[~is_test][confidences[~is_test] < found.threshold].sort(descending=True).values[:11]
    answered = confidences[is_test] >= lower[-1]  # a step of a hundredth further
    errors = int(wrong[is_test][answered].sum())
    assert beta.ppf(CONFIDENCE, errors + 1, int(answered.sum()) - errors) > RISK


def test_the_steps_are_those_of_mapie():
    pytest.importorskip('mapie')
    from mapie.risk_control.fwer_control import FWERFixedSequenceTesting
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

    confidences, wrong = population('overconfident', 1600)
    is_test = torch.arange(1600) % 4 > 0
    found = risk_threshold(confidences, wrong, is_test, RISK, CONFIDENCE)
    steps = confidences[~is_test].sort(descending=True).values.numpy()
    steps = steps[np.round(np.linspace(1, 400, 100)).astype(int) - 1]

    def p_values(rows):
        counts = np.array([(confidences[rows] >= step).sum() for step in steps])
        errors = np.array([(wrong[rows] & (confidences[rows] >= step)).sum() for step in steps])
        return compute_hoeffding_bentkus_p_value(errors / np.maximum(counts, 1), counts, RISK, binary=True)[:, 0]

    first = int(p_values(~is_test).argmin())
    rejected = FWERFixedSequenceTesting().run(p_values(is_test)[first:], 1 - CONFIDENCE)
    assert found.threshold == steps[first:][rejected[-1]]


def test_the_sequence_ends_at_the_first_threshold_that_fails():
    """Of 300 images that test, those at places 181 to 200 are wrong: 300 answers pass again, and are not reached."""
    places = torch.arange(100).repeat_interleave(4)  # the surest first; of each four one to learn from
    is_test = torch.arange(400) % 4 > 0
    wrong = torch.zeros(400, dtype=torch.bool)
    wrong[is_test.nonzero().flatten()[180:200]] = True
    wrong[(~is_test).nonzero().flatten()[60:64]] = True
    found = risk_threshold(-places.double(), wrong, is_test, 0.1, 0.95)
    assert binom.cdf(20, 300, 0.1) < 0.05
    passing = [180 + more for more in range(0, 21, 3) if binom.cdf(more, 180 + more, 0.1) <= 0.05]
    assert (found.answered, found.errors) == (passing[-1], passing[-1] - 180)


@pytest.mark.parametrize(('answers', 'errors', 'shown'), [(59, 0, True), (58, 0, False), (93, 1, True), (92, 1, False)])
def test_the_least_answers_that_show_a_risk(answers, errors, shown):
    """Of equal confidences; by hand: 0.95^59 = 0.0485, 0.95^58 = 0.0510, and so with one error."""
    assert (binom.cdf(errors, answers, 0.05) <= 0.05) == shown
    is_test = torch.arange(answers + 1) > 0
    wrong = (torch.arange(answers + 1) > 0) & (torch.arange(answers + 1) <= errors)
    found = risk_threshold(torch.ones(answers + 1), wrong, is_test, 0.05)
    assert (found.threshold == 1) if shown else (found.threshold is None)


def test_what_is_missing_is_counted():
    assert [images_without_error(*one) for one in ((0.05, 0.95), (0.01, 0.95), (0.1, 0.9), (0.5, 0.5))] == [
        59, 299, 22, 1,
    ]  # fmt: skip
    assert binom.pmf(0, 59, 0.05) <= 0.05 < binom.pmf(0, 58, 0.05)
    confidences = torch.linspace(0.5, 1, 40)
    right = torch.zeros(40, dtype=torch.bool)
    is_test = torch.arange(40) % 4 > 0
    found = risk_threshold(confidences, right, is_test, 0.05, 0.95)
    missing = found.missing
    assert (found.threshold, found.images) == (None, 30)
    count = 40 + missing
    confidences, is_test = torch.linspace(0.5, 1, count), torch.arange(count) % 4 > 0
    found = risk_threshold(confidences, torch.zeros(count, dtype=torch.bool), is_test, 0.05, 0.95)
    assert found.threshold is not None or found.missing <= 5  # about


def test_no_number_of_images_helps_a_model_that_is_wrong_too_often():
    wrong = torch.arange(400) % 2 == 0
    found = risk_threshold(torch.linspace(0, 1, 400).sqrt(), wrong, torch.arange(400) % 4 > 0, 0.05)
    assert (found.threshold, found.missing) == (None, None)


def test_bad_arguments_are_sentences():
    half = torch.tensor([True, False])
    with pytest.raises(ValueError, match=r'expected risk in \(0, 1\), got 1.5'):
        risk_threshold(torch.ones(2), half, half, 1.5)
    with pytest.raises(ValueError, match='got NaN'):
        risk_threshold(torch.tensor([1, torch.nan]), half, half, 0.1)
    assert risk_threshold(torch.ones(0), half[:0], half[:0], 0.05).missing == 59
