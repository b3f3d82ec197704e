import itertools

import numpy as np
import pytest
import torch

from hybridcls.functional import area_under_risk_coverage, least_area_under_risk_coverage, risk_coverage
from hybridcls.functional.metrics import coverage_at_risk


def test_ties_are_the_mean_over_every_order():
    uncertainty, errors = [0.1, 0.5, 0.5, 0.5, 0.9, 0.9], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    curves = []
    for order in itertools.permutations(range(6)):
        if [uncertainty[index] for index in order] == sorted(uncertainty):
            curves.append(np.cumsum([errors[index] for index in order]) / np.arange(1, 7))
    assert len(curves) == 12
    for shuffled in ([0, 1, 2, 3, 4, 5], [5, 3, 0, 2, 4, 1]):
        result = risk_coverage(torch.tensor(uncertainty)[shuffled], torch.tensor(errors)[shuffled])
        np.testing.assert_allclose(result, np.mean(curves, axis=0))


def test_without_ties_by_a_plain_loop():
    generator = np.random.default_rng(0)
    uncertainty, errors = generator.random(150), generator.random(150) < 0.3
    order = np.argsort(uncertainty)
    risks = [errors[order[:count]].mean() for count in range(1, 151)]
    np.testing.assert_allclose(risk_coverage(torch.from_numpy(uncertainty), torch.from_numpy(errors)), risks)
    assert area_under_risk_coverage(torch.from_numpy(uncertainty), torch.from_numpy(errors)).item() == pytest.approx(
        np.mean(risks)
    )


def test_without_information_it_is_the_error():
    errors = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    assert area_under_risk_coverage(torch.zeros(5), errors).item() == pytest.approx(0.4)


def test_the_least_area_is_the_formula_of_the_paper():
    errors = torch.zeros(1000)
    errors[:100] = 1
    # Geifman et al., eq. 6: r + (1 - r) log(1 - r), up to 1 / N.
    assert least_area_under_risk_coverage(errors).item() == pytest.approx(0.1 + 0.9 * np.log(0.9), abs=1e-3)
    assert least_area_under_risk_coverage(errors, asymptotic=True).item() == pytest.approx(0.1 + 0.9 * np.log(0.9))
    for all_of_them in (torch.zeros(3), torch.ones(3)):
        assert least_area_under_risk_coverage(all_of_them, asymptotic=True).item() == all_of_them[0]
    random = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert area_under_risk_coverage(random, errors) > least_area_under_risk_coverage(errors)


def test_what_is_not_a_number_is_most_unsure():
    torch.testing.assert_close(
        risk_coverage(torch.tensor([torch.nan, 0.3]), torch.tensor([1, 0])), torch.tensor([0.0, 0.5]).double()
    )


@pytest.mark.parametrize('risk', [0.0, 0.1, 0.3, 1.0])
def test_coverage_at_risk_is_the_best_of_all_thresholds(risk):
    generator = torch.Generator().manual_seed(0)
    uncertainty = torch.rand(80, generator=generator).mul(20).round()
    errors = (torch.rand(80, generator=generator) < uncertainty / 40).double()
    best = 0.0
    for threshold in uncertainty.tolist():
        answered = uncertainty <= threshold
        if errors[answered].mean() <= risk:
            best = max(best, answered.double().mean().item())
    assert coverage_at_risk(uncertainty, errors, risk).item() == pytest.approx(best)


def test_coverage_at_risk_at_the_edges():
    assert coverage_at_risk(torch.zeros(4), torch.tensor([0, 0, 0, 1]), 0.2).item() == 0  # all equal: all or none
    assert coverage_at_risk(torch.zeros(4), torch.tensor([0, 0, 0, 1]), 0.25).item() == 1
    assert coverage_at_risk(torch.arange(3.0), torch.ones(3), 0.5).item() == 0  # all wrong
    assert coverage_at_risk(torch.tensor([torch.nan, 0.1]), torch.tensor([1, 0]), 0).item() == 0.5
    assert coverage_at_risk(torch.zeros(0), torch.zeros(0), 0.5).item() == 0
